"""An epoch of the organ model with cached embeddings against full fine-tuning of the same network.

Both train on the same generated slices with the same loss and optimiser. With
the cache, the frozen encoder has run in an earlier epoch and its features are
read from disk. In full fine-tuning the encoder runs and learns as well. SAM
ViT-B has random weights here: its time does not depend on their values.

    python benchmarks/ct_training.py --foundation sam_vit_b --side 512 --slices 4
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

from domainsam.foundation import load_foundation
from domainsam.foundation.sam import SIZES, SamFoundation, SamNetwork
from domainsam.machine import keep_freed_memory
from domainsam.protocols import Features
from domainsam.side.ladder import LadderConfig
from domainsam.train.cache import FeatureCache
from domainsam_ct.model.network import NetworkConfig, OrganNetwork
from domainsam_ct.train.slices import LossOptions, organ_loss

CLASSES = 9


def build_foundation(name: str, dtype: torch.dtype) -> Any:
    if name != "sam_vit_b":
        return load_foundation(name, "cpu", dtype)
    torch.manual_seed(0)
    return SamFoundation(SamNetwork(SIZES[name]), name, 1024, dtype)


def learning_encoder(name: str, side: int) -> tuple[nn.Module, Callable[[Tensor], Features]]:
    """An encoder that learns, and how it is called: SAM's official one, or the embedded one."""
    if name == "sam_vit_b":
        size = SIZES[name]
        vit: Any = ImageEncoderViT(
            img_size=side,
            embed_dim=size.width,
            depth=size.depth,
            num_heads=size.heads,
            mlp_ratio=4,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=size.global_blocks,
            window_size=size.window,
            out_chans=256,
        )
        return vit, lambda images: Features(vit(images), (), (side, side))
    model = load_foundation(name).model  # type: ignore[attr-defined]
    model.encoder.requires_grad_(True).train()
    return model.encoder, model.encode


def epoch(
    network: OrganNetwork,
    encode: Callable[[Tensor], Features],
    optimizer: Any,
    data: list[tuple[Tensor, Tensor]],
    dtype: torch.dtype,
) -> tuple[float, float]:
    """Wall and processor seconds of one pass."""
    wall, cpu = time.perf_counter(), time.process_time()
    for images, labels in data:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            features = encode(images.expand(-1, 3, -1, -1))
            loss = organ_loss(network(images, features), labels, LossOptions())["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--foundation", default="sam_vit_b", choices=["sam_vit_b", "embedded"])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    keep_freed_memory()
    dtype = torch.bfloat16 if given.precision == "bf16" else torch.float32
    foundation = build_foundation(given.foundation, dtype)
    config = NetworkConfig(ladder=LadderConfig(depths=(16,)))
    data = [
        (
            torch.rand(given.batch_size, 1, given.side, given.side),
            torch.randint(0, CLASSES, (given.batch_size, given.side, given.side)),
        )
        for _ in range(given.slices // given.batch_size)
    ]
    report: dict[str, Any] = {**vars(given), "threads": torch.get_num_threads(), "cores": os.cpu_count()}
    networks = {
        name: OrganNetwork(config, foundation, CLASSES).arrange_weights(dtype) for name in ("cached", "full")
    }
    encoder, full_encode = learning_encoder(given.foundation, given.side)
    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(Path(folder), foundation, 10**10)
        learned = {
            "cached": list(networks["cached"].parameters()),
            "full": [*networks["full"].parameters(), *encoder.parameters()],
        }
        encoders = {"cached": cache.encode, "full": full_encode}
        seconds: dict[str, list[tuple[float, float]]] = {"cached": [], "full": []}
        start = time.process_time()
        for images, _ in data:
            cache.encode(images.expand(-1, 3, -1, -1))
        report["filling_the_cache_cpu_s"] = round(time.process_time() - start, 2)
        for name in seconds:
            parameters = [part for part in learned[name] if part.requires_grad]
            report[f"{name}_trained_values"] = sum(part.numel() for part in parameters)
            optimizer = torch.optim.AdamW(parameters, lr=1e-4)
            for _ in range(given.repeats + 1):
                seconds[name].append(epoch(networks[name], encoders[name], optimizer, data, dtype))
    for clock, position in (("wall", 0), ("cpu", 1)):
        # The first pass allocates and is left out.
        least = {name: min(part[position] for part in parts[1:]) for name, parts in seconds.items()}
        report[f"{clock}_s_a_slice"] = {name: round(value / given.slices, 3) for name, value in least.items()}
        report[f"{clock}_times_faster"] = round(least["full"] / least["cached"], 1)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
