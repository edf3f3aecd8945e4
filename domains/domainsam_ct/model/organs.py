"""Load, save and run the organ model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from domainsam.checkpoint import (
    CheckpointHeader,
    collect_tensors,
    load,
    model_file,
    read_header,
    save,
)
from domainsam.config import from_table, to_table
from domainsam.errors import ConfigError
from domainsam.familiar import Known, parse_known
from domainsam.foundation import load_foundation
from domainsam.infer.sweep import BlockPrediction
from domainsam.machine import choose_device, choose_dtype
from domainsam.protocols import Block
from domainsam_ct.model.network import PREFIX, NetworkConfig, OrganNetwork
from domainsam_ct.model.predict import (
    Prediction,
    SliceGrid,
    check_slices,
    make_slice_grid,
    predict_probability,
    predict_slices,
)

PACK = "ct"
SHIPPED = Path(__file__).parents[1] / "weights" / "abdomen.safetensors"
"""The model inside the package."""


@dataclass(frozen=True)
class ModelConfig:
    """How slices are prepared for the network, and the network itself.

    Parameters
    ----------
    window
        Hounsfield units that become 0 and 1; the default is the published one.
    pixel_mm
        Pixel of the network's grid; 0 stretches slices to ``side`` pixels, as published.
    side
        Side in pixels of stretched slices, a multiple of 32.
    """

    window: tuple[float, float] = (-125.0, 275.0)
    pixel_mm: float = 1.5
    side: int = 512
    network: NetworkConfig = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        if self.window[0] >= self.window[1]:
            raise ConfigError(f"window is {list(self.window)}, expected a lower and a higher value in HU")
        if self.pixel_mm and not 0.1 <= self.pixel_mm <= 10:
            raise ConfigError(f"pixel_mm is {self.pixel_mm:g}, expected 0.1 to 10 millimetres, or 0")
        if self.side < 32 or self.side % 32:
            raise ConfigError(f"side is {self.side}, expected a multiple of 32")


@dataclass(frozen=True)
class OrganModel:
    """A network that is ready to run.

    ``labels`` names the values of a prediction, background first. ``context``
    is how many slices on either side of a stack its answer depends on.
    ``validated`` is Dice by organ on cases that took no part in training, where
    the model file tells it; ``known`` what it was trained on was like.
    """

    name: str
    labels: tuple[str, ...]
    config: ModelConfig
    network: OrganNetwork
    dtype: torch.dtype = torch.float32
    batch: int = 8
    validated: Mapping[str, float] = field(default_factory=dict)
    known: Known | None = None

    @property
    def foundation_name(self) -> str:
        """Name of the frozen generalist."""
        return self.network.foundation.name

    @property
    def window(self) -> tuple[float, float]:
        """Hounsfield units that the network tells apart, lowest and highest."""
        return self.config.window

    @property
    def context(self) -> int:
        """Slices before and after a stack that :meth:`predict_slices` can use."""
        return self.config.network.neighbours

    def predict(self, block: Block, spacing_mm: tuple[float, float] | None = None) -> BlockPrediction:
        """Organs of one slice or a part of one, as :class:`~domainsam_ct.read.open.VolumeSource` reads it.

        Parameters
        ----------
        block
            Grey picture, 0 to 1 within :attr:`window`; its first channel counts.
        spacing_mm
            Height and width of a pixel; by default the network's own.
        """
        low, high = self.window
        slices = block.image[:1] * np.float32(high - low) + np.float32(low)
        check_slices(slices)
        side = self.config.pixel_mm or 1.0
        grid = self._grid(slices, spacing_mm or (side, side))
        probability = predict_probability(self.network, slices, grid, self.window, self.dtype)
        labels = np.where(block.valid, probability.argmax(axis=0), 255).astype(np.uint8)
        return BlockPrediction(self.labels, labels, probability, block.valid)

    def _grid(self, slices: NDArray[np.float32], spacing_mm: tuple[float, float]) -> SliceGrid:
        size = (slices.shape[1], slices.shape[2])
        return make_slice_grid(size, spacing_mm, self.config.pixel_mm, self.config.side)

    def predict_slices(
        self,
        slices: NDArray[np.float32],
        spacing_mm: tuple[float, float],
        before: NDArray[np.float32] | None = None,
        after: NDArray[np.float32] | None = None,
    ) -> Prediction:
        """Organs of axial slices; the stack's size never changes the answer beyond rounding.

        Parameters
        ----------
        slices
            ``(S, H, W)`` in Hounsfield units, from the feet upwards, each as
            radiologists look at it: rows from front to back, columns from the
            patient's right to left.
        spacing_mm
            Height and width of a pixel.
        before, after
            ``(n, H, W)`` slices next to the stack; at least :attr:`context`
            of them, where the volume has them.

        Raises
        ------
        InputError
            If the stack is not of that shape or holds values that are no numbers.
        """
        check_slices(slices)
        grid = self._grid(slices, spacing_mm)
        return predict_slices(
            self.network, slices, grid, self.window, (before, after), self.batch, self.dtype
        )


@dataclass(frozen=True)
class MarkedOrgans:
    """In the place of a model where a person marks the organs: what results tell of their making."""

    foundation_name: str
    window: tuple[float, float]
    labels: tuple[str, ...]
    dtype: torch.dtype
    name: str = "none"
    validated: Mapping[str, float] = field(default_factory=dict)


def load_model(
    path: Path | None = None,
    foundation: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch: int = 8,
) -> OrganModel:
    """A trained model on the foundation it fits.

    Parameters
    ----------
    path
        Model file; None for the one inside the package.
    foundation
        Name or weight file; None for the one the model file names.
    device, precision
        As ``--device`` and ``--precision``.
    batch
        Slices computed together.

    Raises
    ------
    CheckpointError
        If the model file is absent, damaged, of another pack, or fits another foundation.
    WeightsError
        If the foundation's weights are absent, or the package has no model of its own.
    ConfigError
        If the device is unknown or absent.
    """
    device = choose_device(device)
    dtype = choose_dtype(precision, device)
    path = path or find_shipped_model()
    header = read_header(path)
    generalist = load_foundation(foundation or header.foundation, device, dtype)
    checkpoint = load(path, PACK, generalist)
    config = from_table(ModelConfig, checkpoint.header.config.get("model", {}), f"header of {path}")
    network = OrganNetwork(config.network, generalist, len(header.labels))
    checkpoint.restore(network, PREFIX)
    network = network.to(device).arrange_weights(dtype).eval()
    validated = {
        name: header.metrics[f"dice_{name}"] for name in header.labels if f"dice_{name}" in header.metrics
    }
    known = parse_known(header.knows)
    return OrganModel(path.stem, header.labels, config, network, dtype, batch, validated, known=known)


def find_shipped_model() -> Path:
    """File of the model inside the package.

    Raises
    ------
    WeightsError
        If it is not there.
    """
    return model_file(None, SHIPPED, PACK, "organ")


def save_model(
    path: Path,
    network: OrganNetwork,
    labels: tuple[str, ...],
    config: ModelConfig,
    training: Mapping[str, Any],
    metrics: Mapping[str, float],
    half: bool = False,
    knows: Mapping[str, Any] | None = None,
) -> None:
    """Write a model file; ``training`` is the recipe's table, ``half`` stores float16.

    ``knows`` is what the training data were like, see :func:`domainsam.familiar.learn_known`.

    Raises
    ------
    CheckpointError
        If ``half`` is asked for and a weight is not finite in float16.
    OutputError
        If the file cannot be written.
    """
    header = CheckpointHeader(
        pack=PACK,
        foundation=network.foundation.name,
        foundation_sha256=network.foundation.sha256,
        labels=labels,
        config={"model": to_table(config), "training": dict(training)},
        metrics=metrics,
        knows=knows or {},
    )
    save(path, collect_tensors(network, PREFIX), header, half)


def identify_model(model: OrganModel | MarkedOrgans) -> Mapping[str, Any]:
    """What of a model decides the answer."""
    return {
        "model": model.name,
        "foundation": model.foundation_name,
        "window": list(model.window),
        "precision": str(model.dtype),
        "model labels": list(model.labels),
    }
