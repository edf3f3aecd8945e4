"""A model that knows organs by their density, so that right answers are known exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from domainsam.familiar import Known
from domainsam_ct.model.organs import ModelConfig
from domainsam_ct.model.predict import Prediction
from tests.ct.made import write_nifti

NAMES = (
    *("background", "spleen", "kidney_right", "kidney_left", "gallbladder"),
    *("liver", "stomach", "aorta", "pancreas"),
)
DENSITY = {"spleen": 150, "liver": 100, "stomach": 300, "aorta": 400, "pancreas": 500}
KIDNEYS = 200
SPACING = (4.0, 5.0, 6.0)
SHAPE = (20, 16, 12)


@dataclass
class DensityModel:
    """Stands in for an ``OrganModel``: density says which organ, the side of the image which kidney."""

    name: str = "density"
    labels: tuple[str, ...] = NAMES
    config: ModelConfig = field(default_factory=ModelConfig)
    batch: int = 4
    context: int = 0
    dtype: torch.dtype = torch.float32
    foundation_name: str = "none"
    method: str = "specialist"
    runtime: str = "torch"
    provenance: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    validated: dict[str, float] = field(default_factory=lambda: {"liver": 0.912})
    known: Known | None = None

    @property
    def window(self) -> tuple[float, float]:
        return self.config.window

    def predict_slices(
        self, slices: Any, spacing_mm: Any, before: Any = None, after: Any = None
    ) -> Prediction:
        assert spacing_mm == (SPACING[1], SPACING[0])
        self.asked += len(slices)
        found = np.zeros(slices.shape, np.uint8)
        for name, hu in DENSITY.items():
            found[np.abs(slices - hu) < 20] = NAMES.index(name)
        kidneys = np.abs(slices - KIDNEYS) < 20
        # Radiologists see the patient's right on the left.
        right = np.arange(slices.shape[2]) < slices.shape[2] // 2
        found[kidneys & right] = NAMES.index("kidney_right")
        found[kidneys & ~right] = NAMES.index("kidney_left")
        return Prediction(found, np.where(found > 0, 0.8, 0.9).astype(np.float16))


def abdomen() -> tuple[np.ndarray, np.ndarray]:
    """Canonical Hounsfield units and the truth; no gallbladder; the aorta runs out of the scan."""
    truth = np.zeros(SHAPE, np.uint8)
    truth[11:18, 6:14, 3:10] = NAMES.index("liver")
    truth[2:6, 3:8, 5:10] = NAMES.index("spleen")
    truth[13:16, 2:5, 2:7] = NAMES.index("kidney_right")
    truth[3:6, 9:12, 1:5] = NAMES.index("kidney_left")
    truth[7:10, 8:12, 6:9] = NAMES.index("stomach")
    truth[8:10, 3:5, :] = NAMES.index("aorta")
    hu = np.full(SHAPE, -100, np.int16)
    hu[0], hu[-1] = -1000, -1000
    for name, value in DENSITY.items():
        hu[truth == NAMES.index(name)] = value
    for name in ("kidney_right", "kidney_left"):
        hu[truth == NAMES.index(name)] = KIDNEYS
    return hu, truth


def affine() -> np.ndarray:
    matrix = np.diag([*SPACING, 1.0])
    matrix[:3, 3] = (-40, -30, 200)
    return matrix


def write_case(path: Path) -> Path:
    """The abdomen as a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_nifti(path, abdomen()[0], affine())


def untouched(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and what is in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
