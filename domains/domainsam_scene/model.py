"""The scene model: a trained network that is ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from domainsam.checkpoint import read_header
from domainsam.errors import WeightsError
from domainsam.foundation import load_foundation
from domainsam.infer.networks import quick_in_bfloat16
from domainsam_cli.options import choose_device
from domainsam_scene.network import SceneNetwork
from domainsam_scene.predict import MULTIPLE, ScenePrediction, predict
from domainsam_scene.trained import load_network

SHIPPED = Path(__file__).parent / "weights" / "generated.safetensors"
"""The model inside the package."""


@dataclass(frozen=True)
class SceneModel:
    """A network and where it computes.

    ``name`` is what reports call it, ``foundation_name`` the frozen generalist below it.
    """

    name: str
    network: SceneNetwork
    foundation_name: str
    device: torch.device
    dtype: torch.dtype

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of their numbers."""
        return self.network.config.labels

    @property
    def modalities(self) -> tuple[str, ...]:
        """Sensors that it was trained on."""
        return self.network.config.modalities

    @property
    def image_size(self) -> int:
        """Longest side in pixels that scenes are scaled to, as the multiple of 32 that tiles need."""
        return max(MULTIPLE, self.network.config.image_size // MULTIPLE * MULTIPLE)

    def predict(
        self,
        images: Mapping[str, NDArray[np.float32]],
        valid: Mapping[str, NDArray[np.bool_]] | None = None,
    ) -> ScenePrediction:
        """The answer for one scene; see :func:`domainsam_scene.predict.predict`."""
        return predict(self.network, images, valid, self.device, self.dtype)


def load_model(
    path: Path | None = None,
    foundation: str | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> SceneModel:
    """A model from a file, or the one inside the package.

    Parameters
    ----------
    path
        A file that training wrote; None for the model inside the package.
    foundation
        Name or checkpoint of the frozen generalist; None for the one that the file names.
    device, precision
        As ``--device`` and ``--precision`` say it.

    Raises
    ------
    CheckpointError
        If the file is absent, damaged, of another pack, or fits another foundation.
    WeightsError
        If the foundation's weights are absent.
    ConfigError
        If the device is unknown or absent.
    """
    where = choose_device(device)
    if path is None and not SHIPPED.is_file():
        raise WeightsError(
            f"this installation has no scene model ({SHIPPED.name} is not in the package): "
            "name one with --model, or train one with `domainsam scene train`"
        )
    file = path or SHIPPED
    header = read_header(file)
    dtype = _dtype(precision, where)
    base = load_foundation(foundation or header.foundation, where)
    network, _ = load_network(file, base)
    return SceneModel(file.stem, network, base.name, torch.device(where), dtype)


def _dtype(name: str, device: str) -> torch.dtype:
    """What ``--precision`` means on a device."""
    if name == "auto":
        return torch.bfloat16 if quick_in_bfloat16(device) else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
