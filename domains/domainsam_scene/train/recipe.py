"""Training recipe of scene models, read from TOML."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from domainsam.memory import memorysam
from domainsam.train import start
from domainsam.train.loop import StageOptions
from domainsam.train.start import RunOptions
from domainsam_scene.model.network import Method, NetworkOptions
from domainsam_scene.settings import ReadOptions
from domainsam_scene.train import objective as learning
from domainsam_scene.train.objective import LearningOptions
from domainsam_scene.train.scenes import SceneCropOptions

RECIPES = Path(__file__).parents[1] / "recipes"
"""Recipes that come with the package, by name."""
FOUNDATION = "embedded_sam2"
"""The small foundation of SAM 2's shape inside the package."""
WARMUP_EPOCHS = 10
WARMUP_START = 0.1
PAPER_SIDE = 1024


@dataclass(frozen=True)
class TrainConfig:
    """A recipe.

    Parameters
    ----------
    foundation
        Name or weight file of the frozen generalist, one of SAM 2's kind.
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


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """One call of ``domainsam scene train``, beside its recipe."""

    layout: str = "plain"
    split: str | None = "train"
    val_split: str | None = "val"
    val: Path | None = None
    read: ReadOptions = field(default_factory=ReadOptions)


def read_recipe(given: Path) -> TrainConfig:
    """A recipe by file or by the name of a shipped one; see :func:`domainsam.train.start.read_recipe`."""
    return start.read_recipe(TrainConfig, given, RECIPES)


def make_paper_recipe(config: TrainConfig, layout: str) -> TrainConfig:
    """The recipe that the method was published with, as far as it is known.

    MemorySAM: its code's choices, 200 epochs at 6e-4 on DELIVER, 500 at 4e-4
    on MCubeS. MLE-SAM's schedule was not published: it gets the same one.
    """
    method: Method = "mlesam" if config.network.method == "mlesam" else "memorysam"
    network = replace(
        config.network,
        method=method,
        image_size=PAPER_SIDE,
        rank=32 if method == "mlesam" else 4,
        lora_width="full" if method == "mlesam" else "published",
        sequence=memorysam.PUBLISHED,
        head_width=256,
    )
    epochs, rate = (500, 4e-4) if layout == "mcubes" else (200, 6e-4)
    return replace(
        config,
        epochs=epochs,
        judged=0,
        network=network,
        crops=SceneCropOptions(PAPER_SIDE),
        learning=learning.PUBLISHED,
        stage=StageOptions(
            1, lr=rate, weight_decay=0.01, warmup_start=WARMUP_START, schedule="poly", clip=0.0, ema=0.0
        ),
    )


def set_steps(config: TrainConfig, scenes: int) -> TrainConfig:
    """Epochs as steps: the warm-up takes ten of them at most, and each ends with an evaluation."""
    if not config.epochs:
        return config
    epoch = max(1, round(scenes / config.batch_size))
    warmup = min(WARMUP_EPOCHS, config.epochs)
    return replace(config, stage=config.stage.over_epochs(config.epochs, epoch, warmup=warmup))
