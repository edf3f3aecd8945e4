"""Teach the small SAM 2-shaped foundation to answer boxes, clicks and rough masks; its features stay.

    python -m recipes.scene.answers DATA --public SETS --start-from FIRST --work runs/scene/answers
    python -m recipes.scene.answers DATA --start-from FIRST --work runs/scene/answers
        --export WEIGHTS --rebind MODEL

Only what answers prompts learns. The encoder, the two convolutions of its finer levels and the embeddings
of absent prompts stay to the bit, so that models trained on this foundation go on giving what they gave:
``--rebind`` writes the new foundation's digest into the headers of such models. The last state is in
``--work``; the same command goes on from it. On a CPU set ``MALLOC_MMAP_MAX_=0`` and
``MALLOC_TRIM_THRESHOLD_=16000000000``: keeping freed memory halves the time of a step.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from domainsam import checkpoint
from domainsam.errors import CheckpointError
from domainsam.foundation import embedded_sam2 as tiny_sam2
from domainsam.foundation.base import digest_tensors
from domainsam.foundation.embedded import HEADER
from domainsam.foundation.loading import read_tensors
from domainsam.machine import is_quick_in_bfloat16
from domainsam.tensorfile import load_strict, read_metadata, read_safetensors
from domainsam.train import distil
from recipes.embedded.corpus import SHARES
from recipes.embedded.public import SHARES as PUBLIC_SHARES
from recipes.embedded.train import gather, show
from recipes.scene.distil import Sam2Student, batches

LEARNING = (
    "sam_mask_decoder.transformer.",
    "sam_mask_decoder.iou_token.",
    "sam_mask_decoder.mask_tokens.",
    "sam_mask_decoder.output_upscaling.",
    "sam_mask_decoder.output_hypernetworks_mlps.",
    "sam_mask_decoder.iou_prediction_head.",
    "sam_prompt_encoder.point_embeddings.",
    "sam_prompt_encoder.mask_downscaling.",
)
"""How the names of what learns begin."""
SCORE_HEAD = "sam_mask_decoder.pred_obj_score_head."
PRESENT = 10.0
"""Object score that SAM 2's code takes for "there is an object" where a decoder has no head for it."""


class Answers:
    """What answers prompts, on a frozen encoder: boxes, rough masks and clicks with corrections."""

    def __init__(self, network: Any) -> None:
        self.model: nn.Module = network.train()
        # A frozen encoder stays as it is to the bit: what was trained on its features goes on working.
        network.image_encoder.eval()
        for name, value in network.named_parameters():
            value.requires_grad_(name.startswith(LEARNING))
        self.learning: nn.Module = Learning(network)
        self.student = Sam2Student(network)
        self.short = is_quick_in_bfloat16("cpu")

    def terms(self, images: Tensor, masks: Tensor, step: int, rng: Generator) -> distil.Terms:
        """``masks``: the loss of the answers."""
        # On CPUs the backward pass of plain attention is quicker than that of the fused one.
        with torch.autocast("cpu", torch.bfloat16, enabled=self.short), sdpa_kernel(SDPBackend.MATH):
            with torch.no_grad():
                features = self.student.encode(images.float() / 255)
            answer = distil.prompt_loss(
                self.student, features, masks, rng, corrections=1 if step % 4 else 2, every_reading=True
            )
        return {"masks": (1.0, answer)}

    def state(self) -> dict[str, Any]:
        """Nothing beside the weights."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to take up."""


class Learning(nn.Module):
    """The parameters of a network that learn, under names of their own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, value in network.named_parameters():
            if value.requires_grad:
                self.register_parameter(name.replace(".", "_"), value)


def begin(path: Path) -> Any:
    """The network with the weights of a foundation's file, and its untrained memory parts."""
    network = tiny_sam2.build()
    memory = {
        name: value
        for name, value in network.state_dict().items()
        if name.split(".")[0] in tiny_sam2.MEMORY_PARTS
    }
    return load_strict(network, {**memory, **read_tensors(path)}, str(path))


def train(options: argparse.Namespace) -> None:
    """Learn, or go on from the last state, until the last step."""
    torch.manual_seed(options.seed)
    records = [record for record in gather(options) if not record.held_back]
    distil.train(
        Answers(begin(options.start_from)),
        lambda step: batches(records, options, step, {**SHARES, **PUBLIC_SHARES}),
        distil.DistilOptions(options.steps, options.rate, options.warm_up, options.every, options.seed),
        options.work,
        progress=show,
    )


def export(options: argparse.Namespace) -> None:
    """Write the averaged weights, and bind the models anew that are named with ``--rebind``.

    Raises
    ------
    CheckpointError
        If anything but :data:`LEARNING` and the object score's head differs from the file that was begun
        with, or if a model to bind anew was not trained on that.
    """
    before = read_safetensors(options.start_from)
    facts = json.loads(read_metadata(options.start_from)[HEADER])
    bound = [(path, checkpoint.read_header(path)) for path in options.rebind]
    digest = digest_tensors(before)
    for path, header in bound:
        if header.foundation_sha256 != digest:
            raise CheckpointError(f"{path} was not trained on {options.start_from}: it stays as it is")
    state = torch.load(options.work / "latest.pt", weights_only=True)
    network = tiny_sam2.build()
    network.load_state_dict(state["average"])
    score_present(network.sam_mask_decoder)
    tiny_sam2.save(network, options.export, {**facts, "version": str(int(facts["version"]) + 1)})
    after = read_safetensors(options.export)
    check_frozen(before, after)
    for path, header in bound:
        told = replace(header, foundation_sha256=digest_tensors(after))
        checkpoint.save(path, read_safetensors(path), told)


def score_present(decoder: Any) -> None:
    """Let the object score say that there is an object, as SAM 2 does where a decoder has no such head."""
    last = decoder.pred_obj_score_head.layers[-1]
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, PRESENT)


def check_frozen(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    """Refuse weights whose frozen tensors, names or types are not those of the file that was begun with."""
    kinds = [
        {name: (value.dtype, value.shape) for name, value in tensors.items()} for tensors in (before, after)
    ]
    frozen = [name for name in before if not name.startswith((*LEARNING, SCORE_HEAD))]
    if kinds[0] != kinds[1] or not all(torch.equal(before[name], after[name]) for name in frozen):
        raise CheckpointError("what was to stay frozen differs from the file that was begun with")


def main() -> None:
    """Parse the command line, then train or export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--public", type=Path, help="folder with public sets to learn from too")
    parser.add_argument("--work", type=Path, default=Path("runs/scene/answers"))
    parser.add_argument(
        "--start-from", type=Path, default=tiny_sam2.WEIGHTS, help="weights to begin with, else those shipped"
    )
    parser.add_argument("--steps", type=int, default=2700)
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--masks", type=int, default=4, help="objects of an image that are asked for")
    parser.add_argument("--size", type=int, default=256, help="side of crops")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--warm-up", type=int, default=100, help="steps in which the rate rises")
    parser.add_argument("--every", type=int, default=100, help="steps between saved states")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", type=Path, help="write the averaged weights here instead of training")
    parser.add_argument(
        "--rebind",
        type=Path,
        nargs="*",
        default=[],
        metavar="MODEL",
        help="with --export: models on the weights begun with, which get the digest of the new ones",
    )
    options = parser.parse_args()
    if options.export is None:
        train(options)
    else:
        export(options)


if __name__ == "__main__":
    main()
