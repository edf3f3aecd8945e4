"""Efficient generalists with seeded random weights, and official-format files of them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from domainsam.foundation.efficient import SPECS, EfficientNetwork
from domainsam.foundations import FOUNDATIONS

KEYS = Path(__file__).parent / "foundation" / "keys"
SAM_PARTS = "sam_decoder"
NORM = ("weight", "bias", "running_mean", "running_var")
WRAPPED = ("efficientsam_ti", "efficientsam_s", "edge_sam")
"""Files that hold their tensors under ``model``; EdgeSAM's do where they come from training."""


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random norms and positions, and logits that spread around 0; frozen and in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(std=0.1, generator=generator)
            part.running_var.uniform_(0.75, 1.25, generator=generator)
            nn.init.uniform_(part.weight, 0.5, 1.0, generator=generator)
            nn.init.normal_(part.bias, std=0.1, generator=generator)
    for name, parameter in module.named_parameters():
        if "pos_embed" in name or "attention_biases" in name:
            nn.init.normal_(parameter, std=0.3, generator=generator)
        if "output_hypernetworks_mlps" in name and name.endswith(("layers.2.weight", "fc.weight")):
            with torch.no_grad():
                parameter.mul_(30)
    return module.eval().requires_grad_(False)


def random_network(name: str, **settings: int) -> EfficientNetwork:
    """A network of that name with lively random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = EfficientNetwork(SPECS[name], settings)
    lively(network)
    return network


def official_tensors(name: str, network: nn.Module) -> dict[str, torch.Tensor]:
    """A network's tensors under the official names."""
    return {SPECS[name].official_name(key): value for key, value in network.state_dict().items()}


def write_official(name: str, folder: Path) -> Path:
    """A file of random weights in the form, and under the name, of the official one."""
    row = FOUNDATIONS[name].weights
    assert row is not None
    tensors = official_tensors(name, random_network(name))
    path = folder / (row.also[0] if row.file.endswith(".zip") else row.file)
    torch.save({"model": tensors} if name in WRAPPED else tensors, path)
    return path


def read_keys(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of an official file, from the lists in ``keys``.

    A line is a name and a shape, ``-`` for a single number; a batch norm's five
    tensors are one line, ``norm`` and its width. SAM's own parts are a list for all.
    """
    lines = (KEYS / f"{name}.txt").read_text().splitlines()
    if name not in ("efficientsam_ti", "efficientsam_s"):
        lines += (KEYS / f"{SAM_PARTS}.txt").read_text().splitlines()
    found: dict[str, tuple[int, ...]] = {}
    for line in lines:
        key, *shape = line.split()
        if shape[0] == "norm":
            found |= {f"{key}.{part}": (int(shape[1]),) for part in NORM}
            found[f"{key}.num_batches_tracked"] = ()
        else:
            found[key] = () if shape[0] == "-" else tuple(map(int, shape[0].split("x")))
    return found
