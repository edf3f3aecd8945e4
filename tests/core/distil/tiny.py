"""A tiny teacher of the embedded kind, and pictures of smooth colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from domainsam.distil.pairs import Pair, adopt_decoder, make_student
from domainsam.distil.pictures import Material, Views, find_material
from domainsam.foundation import load_foundation
from domainsam.foundation.decoders.compact import CompactSam
from domainsam.foundation.embedded import save_embedded
from domainsam.protocols import Features, Foundation

SIDE = 64
TEACHER, STUDENT = "test_efficientnet", "test_resnet"
"""Networks of timm for tests, of fewer than half a million parameters."""


def write_teacher(path: Path, seed: int = 3) -> Path:
    """A weight file of seeded random weights and norms."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CompactSam(TEACHER, 64)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.75, 1.25)
    facts = {"name": "tiny", "version": "1", "licence": "Apache-2.0"}
    save_embedded(network.eval(), path, {**facts, "image_size": SIDE, "encoder": TEACHER, "mlp_dim": 64})
    return path


def write_pictures(folder: Path, count: int = 8, seed: int = 0) -> Path:
    """``count`` pictures of 64 x 48 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        colours = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((64, 48), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def make_pair(teacher: Foundation, student: str = STUDENT) -> Pair:
    """Teacher and student; features are kept in memory."""
    made, kept = make_student(student, teacher), dict[bytes, Features]()

    def teach(images: torch.Tensor) -> Features:
        key = images.numpy().tobytes()
        if key not in kept:
            kept[key] = teacher.encode(images)
        return kept[key]

    return Pair(teacher, made, teach, adopt_decoder(teacher, made))


def material(tmp_path: Path) -> tuple[Foundation, Material]:
    """A teacher and its pictures, a quarter of them held back."""
    teacher = load_foundation(write_teacher(tmp_path / "teacher.safetensors"))
    return teacher, find_material(write_pictures(tmp_path / "pictures"), SIDE, "longest", 0.25)


def views(pictures: tuple[object, ...], batch_size: int = 3) -> Views:
    """Batches of whole pictures."""
    return Views(pictures, SIDE, "longest", batch_size)  # type: ignore[arg-type]
