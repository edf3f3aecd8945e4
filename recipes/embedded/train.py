"""Train the embedded foundation from scratch or further, on a GPU or on a CPU; stop and go on at will.

    python -m recipes.embedded.train DATA --work runs/embedded --steps 6000
    python -m recipes.embedded.train DATA --work runs/embedded --steps 6000 --export
    python -m recipes.embedded.train DATA --public SETS --start-from embedded.safetensors --work runs/second
    python -m recipes.embedded.train DATA --public SETS --encoder efficientnet_lite0 --trunk-weights TRUNK \
        --answers-from embedded.safetensors --mlp-dim 512 --work runs/lite

``DATA`` is the folder of real data, ``SETS`` one with public sets, see :mod:`recipes.embedded.public`. The
last state is in ``--work``; the same command goes on from it. On a CPU set ``MALLOC_MMAP_MAX_=0`` and
``MALLOC_TRIM_THRESHOLD_=16000000000``: keeping freed memory halves the time of
a step.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from domainsam.foundation.decoders.compact import CompactSam
from domainsam.foundation.embedded import save_embedded
from domainsam.foundation.loading import read_tensors
from domainsam.machine import is_quick_in_bfloat16
from domainsam.tensorfile import load_strict
from domainsam.train import distil
from domainsam.train.samples import Record, SampleStream, collate
from domainsam.trunks import Trunk, load_trunk
from recipes.embedded.corpus import SHARES, load_once
from recipes.embedded.evaluate import evaluate
from recipes.embedded.public import SHARES as PUBLIC_SHARES
from recipes.embedded.public import load_public

OUTLINE_WEIGHT = 0.3
"""Of the traced outlines' loss beside that of the answers."""
OUTLINES_UNTIL = 0.6
"""Share of the steps in which outlines are traced too."""


class Trainee(nn.Module):
    """The network, and a head that traces object outlines to warm the encoder up."""

    def __init__(self, encoder: str = "repvit_m1", mlp_dim: int = 1024) -> None:
        super().__init__()
        self.sam = CompactSam(encoder, mlp_dim)
        self.outline = nn.Conv2d(32, 1, 1)


def answering(network: CompactSam) -> tuple[nn.Module, ...]:
    """What answers prompts: all but the encoder."""
    return network.prompt_encoder, network.dense_prompts, network.decoder


def adopt_answers(network: CompactSam, tensors: Mapping[str, Tensor], source: str) -> None:
    """Fill all but the encoder from another such network, in place.

    Of a wider transformer the hidden units that weigh most stay: those with the largest product of the
    norms of what they take in and give out.
    """
    width = network.decoder.transformer.layers[0].mlp.lin1.out_features
    narrow = {name: value for name, value in tensors.items() if not name.startswith("encoder.")}
    for name in [name for name in narrow if name.endswith("mlp.lin1.weight")]:
        stem = name.removesuffix("lin1.weight")
        weight = narrow[name].norm(dim=1) * narrow[f"{stem}lin2.weight"].norm(dim=0)
        kept = weight.topk(min(width, len(weight))).indices.sort().values
        narrow[name], narrow[f"{stem}lin1.bias"] = narrow[name][kept], narrow[f"{stem}lin1.bias"][kept]
        narrow[f"{stem}lin2.weight"] = narrow[f"{stem}lin2.weight"][:, kept]
    own = {name: value for name, value in network.state_dict().items() if name.startswith("encoder.")}
    load_strict(network, {**own, **narrow}, source)


def outlines(masks: Tensor) -> Tensor:
    """Outlines of the chosen objects ``(B, 1, h, w)`` from masks ``(B, M, h, w)``."""
    soft = masks.float()
    edge = F.max_pool2d(soft, 3, 1, 1) - (-F.max_pool2d(-soft, 3, 1, 1))
    return edge.amax(dim=1, keepdim=True)


class FromScratch:
    """What the network learns: boxes, rough masks and clicks with corrections, and at first outlines."""

    def __init__(self, model: Trainee, options: argparse.Namespace, device: torch.device) -> None:
        self.model: nn.Module = model
        self.network = model
        self.decoder_only = options.decoder_only
        self.learning: nn.Module = nn.ModuleList(answering(model.sam)) if self.decoder_only else model
        # A frozen encoder stays as it is to the bit: what was trained on its features goes on working.
        model.sam.encoder.train(not self.decoder_only)
        self.steps, self.published_from, self.device = options.steps, options.published_from, device
        self.short = is_quick_in_bfloat16(device)
        # Outlines warm an encoder up; one that is trained needs no warming.
        begun = options.start_from is not None or options.trunk_weights is not None
        self.outlines_until = 0.0 if begun else OUTLINES_UNTIL

    def terms(self, images: Tensor, masks: Tensor, step: int, rng: Generator) -> distil.Terms:
        """``masks`` and ``outlines``: the loss of the answers, and of the traced outlines."""
        published = step >= self.published_from * self.steps
        pixels = images.to(self.device, memory_format=torch.channels_last).float() / 255
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.short):
            with torch.set_grad_enabled(not self.decoder_only):
                features = self.network.sam.encode(pixels)
            corrections = 1 if step % 4 else 2
            answer = distil.prompt_loss(
                self.network.sam, features, masks, rng, published=published, corrections=corrections
            )
            if step >= self.outlines_until * self.steps:
                return {"masks": (1.0, answer)}
            traced = F.binary_cross_entropy_with_logits(
                self.network.outline(features.levels[0]).float(),
                outlines(masks.to(self.device)),
                pos_weight=torch.tensor(3.0, device=self.device),
            )
        return {"masks": (1.0, answer), "outlines": (OUTLINE_WEIGHT, traced)}

    def state(self) -> dict[str, Any]:
        """Nothing beside the weights."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to take up."""


def batches(records: list[Record], options: argparse.Namespace, step: int) -> Iterator[distil.Batch]:
    """Endless batches; the order after a step is the same in every run."""
    size = options.size if step < options.last_from * options.steps else options.last_size
    stream = SampleStream(records, size, options.masks, options.seed * 1_000_003 + step, options.shares)
    return iter(
        DataLoader(stream, options.batch, num_workers=options.workers, collate_fn=collate, prefetch_factor=4)
    )


def train(options: argparse.Namespace) -> None:
    """Train, or go on from the last state, until the last step."""
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    records, began = gather(options), time.time()
    model = Trainee(options.encoder, options.mlp_dim)
    if options.start_from is not None:
        load_strict(model.sam, read_tensors(options.start_from), str(options.start_from))
    if options.trunk_weights is not None:
        load_trunk(Trunk(options.encoder, model.sam.encoder.trunk, (), ()), options.trunk_weights)
    if options.answers_from is not None:
        adopt_answers(model.sam, read_tensors(options.answers_from), str(options.answers_from))
    model = model.to(device).to(memory_format=torch.channels_last)

    def judge(step: int, average: dict[str, Tensor]) -> None:
        scores = evaluate(
            averaged(average, device, options), records, options.image_size, limit=options.limit
        )
        line = json.dumps({"step": step, "minutes": round((time.time() - began) / 60, 1), **scores})
        print(line, flush=True)
        with (options.work / "scores.jsonl").open("a") as log:
            log.write(line + "\n")

    distil.train(
        FromScratch(model, options, device),
        lambda step: batches(records, options, step),
        distil.DistilOptions(
            options.steps,
            options.rate,
            options.warm_up,
            options.every,
            options.seed,
            options.trunk_share,
        ),
        options.work,
        progress=show,
        saved=judge,
        restarts=(math.ceil(options.last_from * options.steps),),
    )


def gather(options: argparse.Namespace) -> list[Record]:
    """All records, kept in the work folder between runs."""
    kept = options.work / "public.pkl"
    if options.public is None:
        return load_once(options.data, options.work)
    if kept.is_file():
        with kept.open("rb") as file:
            return list(pickle.load(file))
    known = load_once(options.data, options.work)
    records = known + load_public(options.public, known)
    kept.write_bytes(pickle.dumps(records))
    return records


def show(step: int, losses: Mapping[str, float], pace: float) -> None:
    """Print a line of progress."""
    words = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
    print(f"step {step} {words} {pace:.2f} s/step", flush=True)


def averaged(average: Mapping[str, Tensor], device: torch.device, options: argparse.Namespace) -> CompactSam:
    """The network with the averaged weights, ready to be judged."""
    trainee = Trainee(options.encoder, options.mlp_dim).to(device).to(memory_format=torch.channels_last)
    trainee.load_state_dict(average)
    trainee.eval()
    return trainee.sam


def main() -> None:
    """Parse the command line, then train or export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/embedded"))
    parser.add_argument("--public", type=Path, help="folder with public sets to learn from too")
    parser.add_argument(
        "--start-from", type=Path, help="weights to begin with, an embedded foundation's file"
    )
    parser.add_argument("--encoder", default="repvit_m1", help="a pyramid of timm, the encoder's trunk")
    parser.add_argument("--trunk-weights", type=Path, help="pretrained weights of that trunk to begin with")
    parser.add_argument("--trunk-share", type=float, default=1.0, help="share of the rate for the trunk")
    parser.add_argument(
        "--answers-from", type=Path, help="begin with what answers prompts in an embedded foundation's file"
    )
    parser.add_argument("--mlp-dim", type=int, default=1024, help="hidden units of the decoder's transformer")
    parser.add_argument(
        "--decoder-only",
        action="store_true",
        help="the encoder stays as --start-from has it, so that models trained on its features stay right",
    )
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--masks", type=int, default=5, help="prompts per encoded image")
    parser.add_argument("--size", type=int, default=256, help="side of the training crops")
    parser.add_argument("--last-size", type=int, default=384, help="side of the last training crops")
    parser.add_argument(
        "--last-from", type=float, default=0.8, help="share of the steps after which they come"
    )
    parser.add_argument("--image-size", type=int, default=512, help="side at which it is judged and shipped")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--warm-up", type=int, default=200, help="steps in which the rate rises")
    parser.add_argument(
        "--published-from",
        type=float,
        default=0.6,
        help="share of the steps after which SAM's losses take over",
    )
    parser.add_argument("--every", type=int, default=300, help="steps between saved states")
    parser.add_argument(
        "--limit", type=int, default=12, help="held-back images of each set in the interim judgement"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="embedded", help="what the exported foundation is called")
    parser.add_argument("--export", type=Path, help="write the averaged weights here instead of training")
    options = parser.parse_args()
    if options.decoder_only and options.start_from is None:
        parser.error("--decoder-only: an encoder that learns nothing has to come from --start-from FILE")
    options.shares = {**SHARES, **PUBLIC_SHARES} if options.public else SHARES
    if options.export is None:
        train(options)
        return
    state = torch.load(options.work / "latest.pt", map_location="cpu", weights_only=True)
    trainee = Trainee(options.encoder, options.mlp_dim)
    trainee.load_state_dict(state["average"])
    about = {
        "name": options.name,
        "encoder": options.encoder,
        "mlp_dim": options.mlp_dim,
        "version": "1",
        "licence": "Apache-2.0; trained in part on research-only imagery, see the model card",
        "image_size": options.image_size,
        "steps": state["step"],
    }
    save_embedded(trainee.sam.eval(), options.export, about)


if __name__ == "__main__":
    main()
