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
    NO_FOUNDATION,
    CheckpointHeader,
    collect_tensors,
    load,
    read_header,
    save,
)
from domainsam.config import from_table, to_table
from domainsam.errors import ConfigError
from domainsam.familiar import Known, parse_known
from domainsam.foundation import load_foundation
from domainsam.infer.sweep import BlockPrediction
from domainsam.licences import PROVENANCE, read_provenance, tell_use
from domainsam.machine import choose_device, choose_dtype
from domainsam.protocols import Block
from domainsam_ct.model.network import PREFIX, AnyNetwork, NetworkConfig, build_network
from domainsam_ct.model.predict import (
    Prediction,
    SliceGrid,
    check_slices,
    make_slice_grid,
    predict_probability,
    predict_slices,
)
from domainsam_ct.model.shipped import PACK, find_model
from domainsam_ct.settings import Method


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
    the model file tells it; ``known`` what it was trained on was like, and
    ``provenance`` what that was and what the model may be used for.
    """

    name: str
    labels: tuple[str, ...]
    config: ModelConfig
    network: AnyNetwork
    dtype: torch.dtype = torch.float32
    batch: int = 8
    validated: Mapping[str, float] = field(default_factory=dict)
    known: Known | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """``"specialist"`` or ``"ladder"``."""
        return self.config.network.method

    @property
    def runtime(self) -> str:
        """Who computes the foundation, ``"torch"`` where there is none."""
        return str(getattr(self.network.foundation, "runtime", "torch"))

    @property
    def foundation_name(self) -> str:
        """Name of the frozen generalist, ``"none"`` where there is none."""
        return NO_FOUNDATION if self.network.foundation is None else self.network.foundation.name

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
    method: str = "marks"
    runtime: str = "torch"
    """The engine identifies what decodes marks itself."""
    validated: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)


def load_model(
    path: str | Path | None = None,
    foundation: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch: int = 8,
    method: Method | None = None,
    runtime: str = "torch",
) -> OrganModel:
    """A trained model, on the foundation it fits where it has one.

    Parameters
    ----------
    path
        Model file, or the name of one inside the package; None for that of the method.
    foundation
        Name or weight file; None for the one the model file names.
    method
        ``"specialist"`` or ``"ladder"``, which the model has to be; None for any.
    device, precision
        As ``--device`` and ``--precision``.
    batch
        Slices computed together.
    runtime
        As ``--runtime``: who computes the foundation's encoder; what is trained stays in torch.

    Raises
    ------
    CheckpointError
        If the model file is absent, damaged, of another pack, or fits another foundation.
    WeightsError
        If the foundation's weights are absent, or the package has no model of its own.
    ConfigError
        If the device is unknown or absent, the model is of another method, or
        a foundation is named for one that has none.
    """
    device = choose_device(device)
    dtype = choose_dtype(precision, device)
    path = find_model(path, method)
    header = read_header(path)
    alone = header.foundation == NO_FOUNDATION
    if alone and foundation is not None:
        raise ConfigError(
            f"model {path.stem} is a specialist without a foundation, so --foundation {foundation} is of no "
            "use: leave it out, or take --method ladder"
        )
    if alone and runtime != "torch":
        raise ConfigError(
            f"model {path.stem} is a specialist without a foundation, so --runtime {runtime} is of no use: "
            "leave it out, or take --method ladder"
        )
    wanted = foundation or header.foundation
    generalist = None if alone else load_foundation(wanted, device, dtype, runtime=runtime)
    checkpoint = load(path, PACK, generalist)
    config = from_table(ModelConfig, checkpoint.header.config.get("model", {}), f"header of {path}")
    network = build_network(config.network, generalist, len(header.labels))
    checkpoint.restore(network, PREFIX)
    network = network.to(device).eval().merge_norms().arrange_weights(dtype)
    validated = {
        name: header.metrics[f"dice_{name}"] for name in header.labels if f"dice_{name}" in header.metrics
    }
    provenance = read_provenance(header.config)
    tell_use(path.stem, provenance)
    known = parse_known(header.knows)
    return OrganModel(path.stem, header.labels, config, network, dtype, batch, validated, known, provenance)


def save_model(
    path: Path,
    network: AnyNetwork,
    labels: tuple[str, ...],
    config: ModelConfig,
    training: Mapping[str, Any],
    metrics: Mapping[str, float],
    half: bool = False,
    knows: Mapping[str, Any] | None = None,
    provenance: Mapping[str, str] | None = None,
) -> None:
    """Write a model file; ``training`` is the recipe's table, ``half`` stores float16.

    ``knows`` is what the training data were like, see :func:`domainsam.familiar.learn_known`;
    ``provenance`` says under ``"data"`` what they were, and under ``"use"`` what for the
    model may be used, ``"research"`` or :data:`OPEN_USE`.

    Raises
    ------
    CheckpointError
        If ``half`` is asked for and a weight is not finite in float16.
    OutputError
        If the file cannot be written.
    """
    header = CheckpointHeader(
        pack=PACK,
        foundation=NO_FOUNDATION if network.foundation is None else network.foundation.name,
        foundation_sha256="" if network.foundation is None else network.foundation.sha256,
        labels=labels,
        config={
            "model": to_table(config),
            "training": dict(training),
            **({PROVENANCE: dict(provenance)} if provenance else {}),
        },
        metrics=metrics,
        knows=knows or {},
    )
    save(path, collect_tensors(network, PREFIX), header, half)


def identify_model(model: OrganModel | MarkedOrgans) -> Mapping[str, Any]:
    """What of a model decides the answer."""
    return {
        "model": model.name,
        "method": model.method,
        "foundation": model.foundation_name,
        "window": list(model.window),
        "precision": str(model.dtype),
        **({} if model.runtime == "torch" else {"runtime": model.runtime}),
        "model labels": list(model.labels),
    }
