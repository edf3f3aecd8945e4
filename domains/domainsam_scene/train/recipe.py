"""Training recipe of scene models, read from TOML."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from domainsam.errors import ConfigError
from domainsam.train import start
from domainsam.train.loop import StageOptions
from domainsam.train.start import RunOptions
from domainsam_scene.model.convert import PAPER_FOUNDATION, PAPER_SIDE, make_published_options
from domainsam_scene.model.network import NetworkOptions
from domainsam_scene.settings import ReadOptions
from domainsam_scene.train import objective as learning
from domainsam_scene.train.crops import SceneCropOptions
from domainsam_scene.train.objective import LearningOptions

RECIPES = Path(__file__).parents[1] / "recipes"
"""Recipes that come with the package, by name."""
FOUNDATION = "embedded_sam2"
"""The small foundation of SAM 2's shape inside the package."""
WARMUP_EPOCHS = 10
WARMUP_START = 0.1
PUBLISHED_METHODS = ("memorysam", "mlesam")


@dataclass(frozen=True)
class TrainConfig:
    """A recipe.

    Parameters
    ----------
    foundation
        Name or weight file of the frozen generalist, one of SAM 2's kind; a specialist has none.
    trunk_weights
        File with the pretrained weights that a specialist's trunk begins with; by default none.
    modalities
        Sensors to train on, in the order in which memory sees them; empty for all that the layout has.
    labels
        Class names; empty for the layout's own.
    batch_size
        Crops in a batch.
    epochs
        Above 0, passes over the training split; they take the place of ``stage.steps``.
    judged
        Most samples of the validation split that an evaluation looks at; 0 for all.
    network, crops, learning, stage
        See the parts' own documentation.
    """

    foundation: str = FOUNDATION
    trunk_weights: str | None = None
    modalities: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    batch_size: int = 4
    epochs: int = 0
    judged: int = 100
    network: NetworkOptions = field(default_factory=NetworkOptions)
    crops: SceneCropOptions = field(default_factory=SceneCropOptions)
    learning: LearningOptions = field(default_factory=LearningOptions)
    stage: StageOptions = field(
        default_factory=lambda: StageOptions(2000, lr=1e-3, weight_decay=0.01, eval_every=200)
    )

    def __post_init__(self) -> None:
        if self.trunk_weights and not self.alone:
            raise ConfigError(
                f"trunk_weights are for a specialist, and the method is {self.network.method}: "
                "leave them out, or take --method specialist"
            )

    @property
    def alone(self) -> bool:
        """Whether it is of a specialist, without a foundation."""
        return self.network.method == "specialist"


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """One call of ``domainsam scene train``, beside its recipe."""

    layout: str = "plain"
    split: str | None = "train"
    val_split: str | None = "val"
    val: Path | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    geotiff: bool = False
    """Whether the folders hold georeferenced rasters."""


def read_recipe(given: Path) -> TrainConfig:
    """A recipe by file or by the name of a shipped one; see :func:`domainsam.train.start.read_recipe`."""
    return start.read_recipe(TrainConfig, given, RECIPES)


def make_paper_recipe(config: TrainConfig, layout: str) -> TrainConfig:
    """The recipe that the method was published with, as far as it is known.

    MemorySAM: its code's choices, 200 epochs at 6e-4 on DELIVER, 500 at 4e-4
    on MCubeS. MLE-SAM's schedule was not published: it gets the same one.

    Raises
    ------
    ConfigError
        If the method is none that was published.
    """
    method = config.network.method
    if method not in PUBLISHED_METHODS:
        raise ConfigError(
            f"--paper: method {method!r} was not published; give --method {' or '.join(PUBLISHED_METHODS)}, "
            "or leave --paper out"
        )
    published = make_published_options(method)
    network = replace(
        published,
        memory_trained=config.network.memory_trained,
        router_keep=config.network.router_keep,
        checkpointing=config.network.checkpointing,
    )
    epochs, rate = (500, 4e-4) if layout == "mcubes" else (200, 6e-4)
    return replace(
        config,
        epochs=epochs,
        judged=0,
        network=network,
        crops=SceneCropOptions(PAPER_SIDE, colour=0.0, jitter=0.2, blur=0.2),
        learning=learning.PUBLISHED,
        foundation=config.foundation if config.foundation != FOUNDATION else PAPER_FOUNDATION,
        stage=StageOptions(
            1,
            lr=rate,
            weight_decay=0.01,
            warmup_start=WARMUP_START,
            schedule="poly_rest",
            rise="exponential",
            decay_vectors=False,
            clip=0.0,
            ema=0.0,
        ),
    )


def set_steps(config: TrainConfig, scenes: int, devices: int = 1) -> TrainConfig:
    """Epochs as steps: the warm-up takes ten of them at most, and each ends with an evaluation.

    In all steps together every scene is seen once an epoch, whatever the batch's size.
    """
    if not config.epochs:
        return config
    together = config.batch_size * devices
    epoch = max(1, round(scenes / together))
    stage = config.stage.over_epochs(config.epochs, epoch, warmup=min(WARMUP_EPOCHS, config.epochs))
    # As published, the power falls as if there were an epoch more.
    beyond = epoch if stage.schedule == "poly_rest" else 0
    steps = math.ceil(config.epochs * scenes / together)
    return replace(config, stage=replace(stage, steps=steps, beyond=beyond))
