"""The scene model: a trained network that is ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from domainsam_cli.options import choose_device
from domainsam_scene.network import NetworkConfig, SceneNetwork
from domainsam_scene.predict import ScenePrediction, predict

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
        """Longest side in pixels that scenes are scaled to; the best size of tiles."""
        return self.network.config.image_size

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
    where = torch.device(choose_device(device))
    config = NetworkConfig(("road", "grass", "building", "car"), ("rgb", "depth", "event", "lidar"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SceneNetwork(config)
    return SceneModel("untrained", network.eval().to(where), "none", where, torch.float32)
