"""The peer's side of ``urban_throughput.py``: geoai's ``predict_geotiff`` with the same network and weights.

``--published`` takes the network as its users would build it, from
``transformers``; same weights, same function, the published order of work.
The clock runs from opening the scene to the closed output. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch
from geoai.inference import predict_geotiff
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.prompter.segformer import SegFormerPrompter
from domainsam.prompter.segformer_parts import LevelShare
from domainsam.prompter.trained import load_prompter


class Probability(nn.Module):
    """Images in 0 to 1 to the probability of settlement at full size, ``(B, 1, H, W)``."""

    def __init__(self, prompter: SegFormerPrompter, published: bool) -> None:
        super().__init__()
        self.prompter = prompter
        self.published = published_network(prompter) if published else None

    def forward(self, images: Tensor) -> Tensor:
        if self.published is None:
            logits = self.prompter.coarse(images).logits
        else:
            logits = self.published((images - self.prompter.mean) / self.prompter.std).logits
        probability = torch.softmax(logits, dim=1)[:, 1:]
        return F.interpolate(probability, size=images.shape[2:], mode="bilinear", align_corners=False)


def published_network(prompter: SegFormerPrompter) -> nn.Module:
    """The prompter's coarse stage as ``SegformerForSemanticSegmentation``."""
    from transformers import SegformerForSemanticSegmentation

    network = SegformerForSemanticSegmentation(prompter.encoder.model.config)
    network.segformer.load_state_dict(prompter.encoder.model.state_dict())
    head = network.decode_head
    shares = [share for share in prompter.head.shares if isinstance(share, LevelShare)]
    with torch.no_grad():
        for projection, share in zip(head.linear_projections, shares, strict=True):
            projection.proj.load_state_dict(share.project.state_dict())
        # The published head stacks the levels from the coarsest to the finest.
        fuse = torch.cat([share.fuse.weight for share in reversed(shares)], dim=1)
        head.linear_fuse.weight.copy_(fuse[:, :, None, None])
    head.batch_norm.load_state_dict(prompter.head.norm.state_dict())
    head.classifier.load_state_dict(prompter.head.classify.state_dict())
    return network.eval()


def stored(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities as the bytes that we write too; the peer casts them itself."""
    return np.rint(probability * 254)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--tile", type=int, required=True)
    parser.add_argument("--overlap", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--published", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    prompter, _ = load_prompter(given.model, pack="urban")
    network = Probability(prompter, given.published).eval()
    start, cpu = perf_counter(), process_time()
    predict_geotiff(
        network,
        given.scene,
        given.out,
        tile_size=given.tile,
        overlap=given.overlap,
        batch_size=given.batch_size,
        output_dtype="uint8",
        output_nodata=255,
        postprocess_fn=stored,
        device="cpu",
        verbose=False,
    )
    print(json.dumps({"seconds": perf_counter() - start, "cpu": process_time() - cpu}))


if __name__ == "__main__":
    main()
