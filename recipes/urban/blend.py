"""Mean weights of several trainings that began at the same weights (a soup: Wortsman et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from domainsam.checkpoint import Checkpoint, load, save


def average(members: Sequence[Checkpoint]) -> dict[str, Tensor]:
    """Mean tensors of settlement models.

    Trainings that begin at the same weights lie in one valley, so that their mean is a model too; on ground
    unlike what they learnt it is steadier than each of them.
    """
    mean = {name: value.clone() for name, value in members[0].tensors.items()}
    for name, value in mean.items():
        if value.is_floating_point():
            mean[name] = torch.stack([member.tensors[name] for member in members]).mean(0)
    return mean


def blend(files: Sequence[Path], out: Path) -> None:
    """Write the mean of those files that are there, with the last one's header; nothing where none is."""
    members = [load(path, "urban") for path in files if path.is_file()]
    if members:
        save(out, average(members), members[-1].header)
