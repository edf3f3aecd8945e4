"""The settlement model: a trained prompter on the foundation it was trained with."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from domainsam.checkpoint import CheckpointHeader, model_file, read_header
from domainsam.config import from_table
from domainsam.errors import ConfigError
from domainsam.familiar import Known, parse_known
from domainsam.foundation import load_decoder, load_foundation
from domainsam.infer.blend import NODATA
from domainsam.infer.networks import Networks
from domainsam.infer.sweep import BlockPrediction, FirstLook
from domainsam.licences import read_provenance, tell_use
from domainsam.machine import Precision, choose_device, choose_precision
from domainsam.marks import MarkFiles
from domainsam.prompter.segformer import SegFormerPrompter
from domainsam.prompter.trained import load_prompter
from domainsam.protocols import Block, Foundation
from domainsam_urban.model.classifier import CellClassifier, ScreenedPrompter, load_classifier
from domainsam_urban.model.config import PACK, SceneConfig
from domainsam_urban.settings import LEAST_AREA_M2, METHODS, MapOptions, RunOptions, ShapeOptions

SHIPPED = Path(__file__).parents[1] / "weights" / "urban_villages.safetensors"
"""The model inside the package."""
SCENE_TABLE = "scene"
"""Table of a model file's configuration that says how its training scenes were cut."""
SHAPE_TABLE = "shape"
"""Table of a model file's configuration that says how its probability becomes polygons."""
METHOD_KEY = "method"
"""Key of a model file's configuration that says how it maps unless told otherwise."""
CLASSES = ("background", "settlement")
PARTS = ("box", "mask", "sam_embedding", "segformer_embedding")


@dataclass(frozen=True)
class SettlementModel:
    """Networks that are ready to run.

    ``foundation`` is None where only the coarse stage will run.
    ``resolution`` is the ground pixel in metres that the prompter was trained
    at, None if its file does not say; ``tile``, ``overlap`` and ``least_tile`` are in such pixels.
    ``validated`` are its scores on ground that it did not learn from, by name, and
    ``known`` is what it learnt from was like, both as far as the file tells it.
    """

    name: str
    prompter: SegFormerPrompter
    foundation: Foundation | None
    device: torch.device
    precision: Precision
    resolution: float | None
    tile: int = SceneConfig.tile
    overlap: int = SceneConfig.overlap
    least_tile: int = SceneConfig.least_tile
    classifier: CellClassifier | None = None
    validated: Mapping[str, float] = field(default_factory=dict)
    known: Known | None = None

    def get_score(self, method: str) -> float | None:
        """IoU of a method on ground that was not learnt from, None if the file does not tell it.

        Where cities were left out in turns, it is the city's that came out worst.
        """
        folds = [value for name, value in self.validated.items() if name.endswith("_folds_iou")]
        if method == "coarse" and folds:
            return min(folds)
        stage = "coarse" if method == "coarse" else "full"
        # Training writes the first; recipes that made shipped files wrote the others.
        names = (f"{stage}_iou", f"val_iou_{stage}", f"fold_iou_{stage}", "iou")
        return next((self.validated[name] for name in names if name in self.validated), None)

    @property
    def specialist(self) -> SegFormerPrompter | ScreenedPrompter:
        """The prompter, looking only where the classifier expects settlement if there is one."""
        if self.classifier is None:
            return self.prompter
        return ScreenedPrompter(self.prompter, self.classifier, self.resolution).eval()

    @property
    def foundation_name(self) -> str:
        """The foundation's name, or ``none``."""
        return "none" if self.foundation is None else self.foundation.name

    @property
    def speck_pixels(self) -> int:
        """Objects below so many pixels are no prompts: a quarter of the least box of training."""
        return int(self.prompter.config.proposals.min_area / 4)

    def predict(self, block: Block) -> BlockPrediction:
        """What the specialist sees in a block at its training resolution, sides multiples of 32.

        It is what pass one blends; objects' outlines come of :func:`domainsam_urban.map.map_scene`.
        A pixel is settlement from a probability of 0.5 on.
        """
        look = FirstLook(self.specialist, Networks(self.foundation, self.device, self.precision))
        with look.running():
            (answer,) = look.answer([block], (), ())
        share = np.asarray(answer.planes[0], np.float32)
        labels = np.where(answer.valid, share >= 0.5, NODATA).astype(np.uint8)
        return BlockPrediction(CLASSES, labels, np.stack([1 - share, share]), answer.valid)

    def without(self, parts: Collection[str]) -> SettlementModel:
        """The same weights with some prompt parts switched off.

        Raises
        ------
        ConfigError
            If a part is unknown.
        """
        unknown = set(parts) - set(PARTS)
        if unknown:
            raise ConfigError(f"unknown prompt parts {sorted(unknown)}; there are: {', '.join(PARTS)}")
        # A shallow copy shares every tensor; only the configuration is its own.
        prompter = copy.copy(self.prompter)
        kept = replace(prompter.config.parts, **dict.fromkeys(parts, False))
        prompter.config = replace(prompter.config, parts=kept)
        return replace(self, prompter=prompter)

    def trimmed(self, run: RunOptions) -> SettlementModel:
        """The same weights, as far as a run asks them.

        Raises
        ------
        ConfigError
            If a prompt part that is switched off is unknown.
        """
        asked = self.without(run.disabled) if run.disabled else self
        return replace(asked, foundation=None) if run.method == "coarse" else asked


def load_model(options: MapOptions) -> SettlementModel:
    """The model that options ask for, on the foundation it fits.

    Raises
    ------
    CheckpointError
        If the model file is absent, damaged, of another pack, or fits another foundation.
    WeightsError
        If the foundation's weights are absent, or the package has no model of its own.
    ConfigError
        If the device is unknown or absent, or a runtime is named for a method without a foundation.
    """
    device = choose_device(options.run.device)
    path = model_file(options.model, SHIPPED, PACK, "settlement")
    header = read_header(path)
    precision = choose_precision(options.run.precision, device)
    foundation, runtime = None, options.run.runtime
    if options.run.method != "coarse":
        wanted = options.foundation or header.foundation
        foundation = load_foundation(wanted, device, getattr(torch, precision), runtime=runtime)
    elif runtime != "torch":
        raise ConfigError(
            f"--runtime {runtime} computes a foundation, and method coarse asks none: leave it out, "
            "or take --method full"
        )
    prompter, header = load_prompter(path, PACK, foundation)
    prompter.merge_norms()
    tell_use(path.stem, read_provenance(header.config))
    scene = get_scene_settings(header)
    return SettlementModel(
        name=path.stem,
        prompter=prompter.to(device),
        foundation=foundation,
        device=torch.device(device),
        precision=precision,
        resolution=None if scene is None else scene.resolution,
        tile=SceneConfig.tile if scene is None else scene.tile,
        overlap=SceneConfig.overlap if scene is None else scene.overlap,
        least_tile=SceneConfig.least_tile if scene is None else scene.least_tile,
        classifier=None if options.classifier is None else load_classifier(options.classifier).to(device),
        validated=dict(header.metrics),
        known=parse_known(header.knows),
    )


def get_scene_settings(header: CheckpointHeader) -> SceneConfig | None:
    """How a model's training scenes were cut, None if its file does not say."""
    table = header.config.get(SCENE_TABLE)
    return None if table is None else from_table(SceneConfig, table, "the model's header")


@dataclass(frozen=True)
class MarkedObjects:
    """In the place of a model where a person says what objects there are: files, and who decodes them."""

    files: MarkFiles
    foundation: Foundation
    device: torch.device
    precision: Precision
    name: str = "none"
    resolution: float | None = None

    @property
    def foundation_name(self) -> str:
        """The foundation's name."""
        return self.foundation.name


def load_marked(options: MapOptions) -> MarkedObjects:
    """The foundation that decodes what files mark.

    Raises
    ------
    MissingInputError
        If a file of marks does not exist.
    WeightsError, CheckpointError
        If the foundation's weights are absent or unfit.
    ConfigError
        If the device is unknown or absent.
    """
    options.marks.check()
    run = options.run
    foundation, precision = load_decoder(options.foundation, run.device, run.precision, run.runtime)
    return MarkedObjects(options.marks, foundation, foundation.device, precision)


def marked_shape(given: Mapping[str, float | None]) -> ShapeOptions:
    """How marked objects become polygons: as given, else the defaults."""
    return ShapeOptions(**{name: value for name, value in given.items() if value is not None})


def get_shape_settings(path: Path | None, given: Mapping[str, float | None]) -> ShapeOptions:
    """How a model's probability becomes polygons: as given, else as its file says, else the defaults.

    Parameters
    ----------
    path
        The model file; None for the model inside the package.
    given
        Fields of :class:`ShapeOptions`, None where nothing was said.

    Raises
    ------
    CheckpointError
        If the file is absent, damaged or no model.
    ConfigError
        If its table has an unknown key or an impossible value.
    """
    table: Mapping[str, Any] = {}
    # Loading the model says what is wrong with a model of another pack, or with a package without one.
    if path is not None or SHIPPED.is_file():
        header = read_header(path or SHIPPED)
        table = header.config.get(SHAPE_TABLE, {}) if header.pack == PACK else {}
    own = from_table(ShapeOptions, {"min_area": LEAST_AREA_M2, **table}, "the model's header")
    return replace(own, **{name: value for name, value in given.items() if value is not None})


def get_method(path: Path | None, given: str | None = None, disabled: Collection[str] = ()) -> str:
    """How a model maps: as given, else as its file says, else with the foundation, as older files mean it.

    Whoever leaves a part of the prompts out wants the others, and so the foundation.

    Parameters
    ----------
    path
        The model file; None for the model inside the package.
    given
        One of :data:`domainsam_urban.settings.METHODS`, or None where nothing was said.
    disabled
        Parts of the prompts that are left out.

    Raises
    ------
    CheckpointError
        If the file is absent, damaged or no model.
    ConfigError
        If its header asks for a method that this version does not have.
    """
    if given is not None:
        return given
    if disabled:
        return "full"
    if path is None and not SHIPPED.is_file():
        return "coarse"
    header = read_header(path or SHIPPED)
    method = header.config.get(METHOD_KEY, "full") if header.pack == PACK else "full"
    if method not in METHODS:
        raise ConfigError(f"the model's header has method {method!r}, expected one of {', '.join(METHODS)}")
    return str(method)


def read_shipped_resolution() -> float | None:
    """Ground pixel in metres that the model inside the package was trained at."""
    scene = get_scene_settings(read_header(SHIPPED)) if SHIPPED.is_file() else None
    return None if scene is None else scene.resolution


def find_resolution(options: MapOptions) -> float | None:
    """Ground pixel in metres that the model of a run was trained at; None where a person marks objects."""
    if options.marks:
        return None
    if options.model is None:
        return read_shipped_resolution()
    scene = get_scene_settings(read_header(options.model))
    return None if scene is None else scene.resolution
