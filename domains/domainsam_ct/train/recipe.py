"""Training recipe of the organ model, read from TOML."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from domainsam.errors import ConfigError
from domainsam.foundation import COMPANION
from domainsam.side.ladder import LadderConfig
from domainsam.train import start
from domainsam.train.loop import StageOptions
from domainsam_ct.model.network import NetworkConfig
from domainsam_ct.model.organs import ModelConfig
from domainsam_ct.train.augmentation import AugmentOptions
from domainsam_ct.train.cuts import Frame
from domainsam_ct.train.slices import LossOptions

RECIPES = Path(__file__).parents[1] / "recipes"
"""Recipes that come with the package, by name."""
PAPER_FOUNDATION = "sam_vit_b"


@dataclass(frozen=True)
class SplitOptions:
    """Which cases are kept for validation; whole cases, never slices of them.

    Parameters
    ----------
    folds
        0 keeps ``share`` of the cases; 2 and more keep the part of that number.
    fold
        Which part, counted from 0.
    share
        Share of the cases, one at least; 0 keeps none.
    """

    folds: int = 0
    fold: int = 0
    share: float = 0.2

    def __post_init__(self) -> None:
        if self.folds < 0 or self.folds == 1 or not 0 <= self.fold < max(1, self.folds):
            raise ConfigError(
                f"fold {self.fold} of {self.folds} folds: expected 2 folds or more, counted from 0"
            )
        if not 0 <= self.share < 1:
            raise ConfigError(f"share of validation cases is {self.share:g}, expected 0 to below 1")


@dataclass(frozen=True)
class TrainConfig:
    """A recipe.

    Parameters
    ----------
    foundation
        Name or weight file of the frozen generalist.
    trunk_weights
        File with the pretrained weights that the specialist's trunk begins with; by default none.
    start_from
        Model of the same method to train further: a file, or a name inside the package; by default none.
        Where its organs are others, the layer that tells them apart begins anew.
    specialist_weights
        File with the ResNet's published (ImageNet) weights; by default none.
    model
        What is built, and how slices are prepared for it.
    crop
        Side in pixels of training slices, a multiple of 32; published slices are stretched to it.
    crop_rows
        Their height, where it differs: a body is wider than it is high; 0 for ``crop``.
    coarse_share
        Share of the steps, from the first, that see pixels 4/3 as wide and
        so fewer of them: progressive resizing (as Tan & Le 2021, arXiv:2104.00298).
    batch_size
        Slices in a batch, on each device.
    epochs
        Passes over all slices, unless ``optimisation.steps`` is above 0.
    variants
        Versions of each slice that epochs take in turn; their frozen
        embeddings are kept. 0: never the same version again, and nothing to keep.
    cache_gb
        Gigabytes on disk for those embeddings; 0 computes them every time.
    empty_share
        Share of slices without an organ that an epoch shows.
    repeat
        See :func:`domainsam_ct.train.slices.repeat_rare`.
    augment, loss, split, optimisation
        See the parts' own documentation.
    """

    foundation: str = COMPANION
    trunk_weights: str | None = None
    start_from: str | None = None
    specialist_weights: str | None = None
    model: ModelConfig = field(default_factory=ModelConfig)
    crop: int = 256
    crop_rows: int = 0
    coarse_share: float = 0.0
    batch_size: int = 12
    epochs: int = 200
    variants: int = 8
    cache_gb: float = 20.0
    empty_share: float = 1.0
    repeat: float = 0.0
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    loss: LossOptions = field(default_factory=lambda: LossOptions(stride=2))
    split: SplitOptions = field(default_factory=SplitOptions)
    optimisation: StageOptions = field(
        default_factory=lambda: StageOptions(
            0, lr=1e-3, weight_decay=0.1, warmup=250, warmup_start=0.0, schedule="poly", ema=0.99
        )
    )

    def __post_init__(self) -> None:
        if self.crop < 32 or self.crop % 32 or self.crop_rows < 0 or self.crop_rows % 32:
            raise ConfigError(f"crop is {self.crop} by {self.crop_rows}, expected multiples of 32")
        if not 0 <= self.coarse_share <= 1 or self.repeat < 0:
            raise ConfigError("coarse_share must be 0 to 1, repeat 0 or more")
        if (self.coarse_share or self.crop_rows) and not self.model.pixel_mm:
            raise ConfigError("coarse_share and crop_rows need a pixel_mm above 0")
        if self.batch_size < 1 or self.epochs < 1 or self.variants < 0 or self.cache_gb < 0:
            raise ConfigError("batch_size and epochs must be 1 or more, variants and cache_gb 0 or more")
        if self.loss.stride not in (1, 2, 4):
            raise ConfigError(f"loss.stride is {self.loss.stride}, expected 1, 2 or 4")

    @property
    def frame(self) -> Frame:
        """How training slices are cut."""
        return Frame(self.crop, self.model.pixel_mm, self.model.network.neighbours, self.crop_rows)


def read_recipe(given: Path) -> TrainConfig:
    """A recipe by file or by the name of a shipped one; see :func:`domainsam.train.start.read_recipe`."""
    return start.read_recipe(TrainConfig, given, RECIPES)


def make_paper_recipe(config: TrainConfig) -> TrainConfig:
    """SAM-LST as published (Chai et al. 2023 and their scripts), on SAM ViT-B unless another is named.

    Slices stretched to 512 pixels and given to the encoder without SAM's
    statistics, one blend at stride 16, class tokens and hypernetworks random
    and frozen, quarter turns and mirrors without regard to left and right,
    0.2 cross entropy + 0.8 Dice at 128 pixels, AdamW at 1e-3 with weight decay
    0.1, 250 steps of warm-up, power 0.9, 200 epochs in batches of 24 over all
    devices, no running mean of the weights.
    """
    return replace(
        config,
        foundation=PAPER_FOUNDATION if config.foundation == COMPANION else config.foundation,
        model=ModelConfig(
            pixel_mm=0.0,
            side=512,
            network=NetworkConfig(0, "random", LadderConfig("resnet18", (16,)), "published"),
        ),
        trunk_weights=None,
        crop=512,
        crop_rows=0,
        coarse_share=0.0,
        repeat=0.0,
        batch_size=24,
        epochs=200,
        variants=0,
        cache_gb=0.0,
        empty_share=1.0,
        augment=AugmentOptions("paper"),
        loss=LossOptions(sampling="zoom"),
        split=SplitOptions(share=0.0),
        optimisation=StageOptions(
            0,
            lr=1e-3,
            weight_decay=0.1,
            warmup=250,
            warmup_start=0.0,
            schedule="poly",
            clip=0.0,
            ema=0.0,
            eval_every=200,
        ),
    )
