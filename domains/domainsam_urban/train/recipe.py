"""Training recipe of the settlement model, read from TOML."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from domainsam.errors import ConfigError
from domainsam.foundation import COMPANION
from domainsam.prompter.proposals import PUBLISHED
from domainsam.prompter.segformer import PrompterConfig
from domainsam.train import start
from domainsam.train.crops import CropOptions
from domainsam.train.loop import StageOptions
from domainsam.train.losses import LossOptions
from domainsam.train.objectives import PromptingOptions
from domainsam.train.split import BlockOptions
from domainsam.train.start import RunOptions
from domainsam_urban.read.layers import Choice
from domainsam_urban.settings import ReadOptions, ShapeOptions

RECIPES = Path(__file__).parents[1] / "recipes"
"""Recipes that come with the package, by name."""
PAPER_EPOCHS = 100
PAPER_FOUNDATION = "sam_vit_l"
PAPER_SIDE = 1024


@dataclass(frozen=True)
class TrainConfig:
    """A recipe: the model, its material and both stages.

    Parameters
    ----------
    foundation
        Name or weight file of the frozen generalist.
    resolution
        Ground pixel in metres that the model learns at; by default that of the scenes.
    encoder_weights
        Folder or hub name of a SegFormer encoder's pretrained weights; by default none.
    trunk_weights
        File of a trunk's pretrained weights (``prompter.encoder`` names the trunk), safetensors or
        a state dict; by default none. See :func:`domainsam.trunks.load_trunk`.
    trunk_unused
        Beginnings of names in that file that are left aside on purpose.
    shares
        Share of crops that each input (a file or a folder of scenes) gets, in their order, so that a
        city of many scenes does not drown another; by default crops are drawn by ground.
    start_from
        Model file to train further, such as one of this package; by default none.
    batch_size, joint_batch_size
        Crops in a batch of either stage.
    joint_crop
        Side of the joint stage's crops; that of the first stage by default.
    joint_trains
        ``"all"`` as published; ``"steering"``: the SegFormer stays as it is,
        and only what speaks to the foundation (mixer, gate) learns. Wiser
        where labels are few.
    val_tile
        Side of the tiles that validation ground is judged in.
    cache_gb
        Above 0, the joint stage learns from fixed tiles in their eight turns,
        without changes of scale or colour, and keeps the foundation's
        features of them on disk, up to so many gigabytes. An epoch then
        costs the specialist alone.
    shape
        What mapping with the model takes unless told otherwise: threshold, least area and so on.
    prompter, crops, loss, prompting, split, coarse, joint
        See the parts' own documentation.
    """

    foundation: str = COMPANION
    resolution: float | None = None
    encoder_weights: str | None = None
    trunk_weights: str | None = None
    trunk_unused: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    start_from: str | None = None
    batch_size: int = 8
    joint_batch_size: int = 4
    joint_crop: int | None = None
    joint_trains: Literal["all", "steering"] = "all"
    val_tile: int = 512
    cache_gb: float = 0.0
    shape: ShapeOptions = field(default_factory=ShapeOptions)
    prompter: PrompterConfig = field(default_factory=lambda: PrompterConfig(fusion="gate"))
    crops: CropOptions = field(default_factory=CropOptions)
    loss: LossOptions = field(
        default_factory=lambda: LossOptions(coarse_dice=0.5, label_smoothing=0.05, outside_box="ignore")
    )
    prompting: PromptingOptions = field(default_factory=lambda: PromptingOptions(truth_share=0.3))
    split: BlockOptions = field(default_factory=BlockOptions)
    coarse: StageOptions = field(
        default_factory=lambda: StageOptions(2000, lr=6e-4, weight_decay=0.05, eval_every=100)
    )
    joint: StageOptions = field(
        default_factory=lambda: StageOptions(1000, lr=1e-4, weight_decay=0.01, eval_every=100)
    )

    def __post_init__(self) -> None:
        for name in ("joint_crop", "val_tile"):
            value = getattr(self, name)
            if value is not None and (value < 32 or value % 32):
                raise ConfigError(f"{name} is {value}, expected a multiple of 32")
        if self.shares and (min(self.shares) < 0 or not sum(self.shares) > 0):
            raise ConfigError(f"shares are {self.shares}, expected numbers of 0 or more, not all 0")
        if min(self.batch_size, self.joint_batch_size) < 1:
            raise ConfigError("batch sizes must be 1 or more")


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """One call of ``domainsam urban train``, beside its recipe.

    Parameters
    ----------
    val
        Scenes kept for validation; a split of the ground by blocks without them.
    folder
        State, logs and staged labels; beside ``out`` unless given.
    """

    val: Path | None = None
    folder: Path | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    choice: Choice = field(default_factory=Choice)
    """Which features of label files are settlements."""

    @property
    def workroom(self) -> Path:
        """Folder of the run's state and logs."""
        return self.folder or super().workroom


def read_recipe(given: Path) -> TrainConfig:
    """A recipe by file or by the name of a shipped one; see :func:`domainsam.train.start.read_recipe`."""
    return start.read_recipe(TrainConfig, given, RECIPES)


def make_paper_recipe(config: TrainConfig) -> TrainConfig:
    """UV-SAM's recipe for Beijing (Zhang et al. 2024 and their released scripts).

    One joint stage of 100 epochs over tiles of 1024 pixels in batches of 4;
    AdamW at 5e-4 with weight decay 1e-3; one epoch of linear warm-up from 1e-4 of it; cosine; SAM ViT-L
    unless another is named; prompt weight 0.1; head, prompts and focal loss of the released code. Steps
    are set when the number of tiles is known, see :func:`set_epochs`.
    """
    return replace(
        config,
        foundation=PAPER_FOUNDATION if config.foundation == COMPANION else config.foundation,
        batch_size=4,
        joint_batch_size=4,
        joint_crop=PAPER_SIDE,
        val_tile=PAPER_SIDE,
        cache_gb=0.0,
        prompter=replace(config.prompter, fusion="sam", proposals=PUBLISHED, decode_head="released"),
        crops=CropOptions(size=PAPER_SIDE, scale=(0.5, 2.0), aspect=0.0, positive_share=0.0),
        loss=LossOptions(focal_of="mean"),
        prompting=PromptingOptions(),
        coarse=StageOptions(0),
        joint=StageOptions(1, lr=5e-4, weight_decay=1e-3, clip=0.0, ema=0.0),
    )


def set_epochs(config: TrainConfig, tiles: float, epochs: int = PAPER_EPOCHS) -> TrainConfig:
    """The joint stage stretched to epochs over so many tiles, one evaluation an epoch."""
    epoch = max(1, round(tiles / config.joint_batch_size))
    return replace(config, joint=config.joint.over_epochs(epochs, epoch, warmup=1))
