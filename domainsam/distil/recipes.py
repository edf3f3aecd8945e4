"""The five recipes: their stages, and the published lengths and rates.

Where a paper or its code leaves something open, the text beside it says so. A
rate that was published for a batch of another size is scaled in proportion
(Goyal et al. 2017), as EdgeSAM's code does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, TypeVar

from domainsam.distil.end_to_end import POINTS, EndToEndLesson
from domainsam.distil.layerwise import DecoderLesson, LayerLesson
from domainsam.distil.lessons import FeatureLesson, Lesson
from domainsam.distil.masked import DEPTH, RATIO, WIDTH, MaskedLesson
from domainsam.distil.pairs import Pair
from domainsam.distil.prompted import PromptLesson
from domainsam.errors import ConfigError
from domainsam.train.loop import StageOptions

Value = TypeVar("Value", int, float)

RECIPES = ("mse", "sami", "prompt-loop", "layerwise", "end-to-end")


@dataclass(frozen=True)
class Constants:
    """What recipes take beside lengths and rates; a TOML file may say some of it otherwise.

    Parameters
    ----------
    prompts, rounds, weight
        Of the prompts in the loop: :class:`domainsam.distil.prompted.PromptLesson`.
    masks, loss, points
        Of the end-to-end training: :class:`domainsam.distil.end_to_end.EndToEndLesson`.
    ratio, depth, width
        Of the masked reconstruction: :class:`domainsam.distil.masked.MaskedLesson`.
    layers
        Layers that learn at most, those nearest the output; 6 are all that SAM-Lightening has.
    rise
        Share of the stage in which one layer after the other rises to its full weight. The paper's
        interval is not printed: half of the stage leaves the other half to all layers together.
    decoder_prompts
        Of each kind and image where the decoder is aligned.
    """

    prompts: int = 16
    rounds: int = 2
    weight: float = 5.0
    masks: int = 64
    loss: Literal["focal", "entropy"] = "focal"
    points: int = POINTS
    ratio: float = RATIO
    depth: int = DEPTH
    width: int = WIDTH
    layers: int = 6
    rise: float = 0.5
    decoder_prompts: int = 8

    def __post_init__(self) -> None:
        counts = (self.prompts, self.rounds, self.masks, self.points, self.depth, self.layers)
        if min(*counts, self.decoder_prompts) < 1 or self.width < 4:
            raise ConfigError("prompts, rounds, masks, points, depth, layers: expected 1 or more, width 4")
        if not 0 <= self.ratio < 1 or not 0 < self.rise <= 1:
            raise ConfigError(f"ratio {self.ratio}, rise {self.rise}: expected 0 to below 1, above 0 to 1")


@dataclass(frozen=True)
class Published:
    """Length and rate of a stage as published.

    Parameters
    ----------
    name
        Of the stage.
    epochs, warmup
        Passes over all views, and those of them in which the rate rises.
    lr, batch
        The rate, and the batch size that it is for; 0 for a rate that goes with no size.
    weight_decay, clip, decay_vectors
        As of :class:`domainsam.train.loop.StageOptions`.
    """

    name: str
    epochs: int
    warmup: int
    lr: float
    batch: int
    weight_decay: float
    clip: float = 1.0
    decay_vectors: bool = True


FEATURES = Published("features", 10, 5, 0.1, 512, 0.01)
"""EdgeSAM's first phase (``rep_vit_m1_fuse_sa_distill.yaml``)."""
PROMPTS = Published("prompts", 5, 0, 3.2e-3, 512, 0.05, clip=0.01)
"""EdgeSAM's second phase (``rep_vit_m1_fuse_enc_dec_4m_ft_bp_iter2b_sa_distill.yaml``)."""
END_TO_END = Published("end-to-end", 2, 0, 8e-7, 4, 0.1, clip=2.0, decay_vectors=False)
"""EfficientViT-SAM's code for the L sizes; 4e-7 for XL."""
LAYERS = Published("layers", 10, 0, 1e-3, 0, 0.01)
DECODER = Published("decoder", 10, 0, 1e-3, 0, 0.01)
"""SAM-Lightening, section 4.1: 10 epochs each at 1e-3 for any batch; the weight decay is not printed."""
MASKED = Published("masked", 400, 40, 1.5e-4, 256, 0.05, clip=0.0)
"""He et al. 2022, table 8, for masked autoencoders, which EfficientSAM follows."""
FINE_TUNING = Published("fine-tuning", 5, 0, 4e-4, 128, 0.1)
"""EfficientSAM, section 4.1, trains on SA-1B for 5 epochs; rate and batch are not certain."""

STAGES: dict[str, tuple[Published, ...]] = {
    "mse": (FEATURES,),
    "sami": (MASKED, FINE_TUNING),
    "prompt-loop": (FEATURES, PROMPTS),
    "layerwise": (LAYERS, DECODER),
    "end-to-end": (FEATURES, END_TO_END),
}
TRAINS_DECODER = tuple(name for name in RECIPES if name != "mse")


def check_recipe(name: str) -> None:
    """Check that there is such a recipe.

    Raises
    ------
    ConfigError
        If not; the nearest is told.
    """
    if name in RECIPES:
        return
    near = get_close_matches(name, RECIPES, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(f"no recipe is called {name!r}; {hint}recipes: {', '.join(RECIPES)}")


def plan_stages(recipe: str, begun: bool) -> tuple[Published, ...]:
    """The stages of a recipe; one that has been taught (``begun``) begins after the error of features."""
    stages = STAGES[recipe]
    return stages[1:] if begun and len(stages) > 1 and stages[0] is FEATURES else stages


def choose_options(
    stage: Published,
    number: int,
    epoch: int,
    batch: int,
    epochs: Sequence[int] = (),
    steps: Sequence[int] = (),
    rates: Sequence[float] = (),
) -> StageOptions:
    """Length and rate of a stage.

    Parameters
    ----------
    stage, number
        As published, and its number in the recipe.
    epoch
        Steps of an epoch.
    batch
        Views in a batch, over all devices.
    epochs, steps, rates
        Instead of the published ones, one a stage; the last also holds for those that follow. Steps go
        before epochs.

    Raises
    ------
    ConfigError
        If one is not above 0.
    """
    for name, values in (("--epochs", epochs), ("--steps", steps), ("--lr", rates)):
        if any(value <= 0 for value in values):
            raise ConfigError(f"{name} {','.join(map(str, values))}: expected numbers above 0")
    length = _pick(epochs, number, stage.epochs) * epoch
    length = _pick(steps, number, length)
    rate = stage.lr * batch / stage.batch if stage.batch else stage.lr
    return StageOptions(
        steps=length,
        lr=_pick(rates, number, rate),
        weight_decay=stage.weight_decay,
        warmup=round(length * stage.warmup / stage.epochs),
        decay_vectors=stage.decay_vectors,
        clip=stage.clip,
        ema=0.0,
        keep="last",
    )


def _pick(values: Sequence[Value], number: int, usual: Value) -> Value:
    return values[min(number, len(values) - 1)] if values else usual


def make_lesson(
    stage: Published,
    pair: Pair,
    constants: Constants,
    steps: int,
    widths: tuple[list[int], list[int]] = ([], []),
    seed: int = 0,
) -> Lesson:
    """The objective of a stage; ``widths`` are those of the student's and the teacher's layers."""
    made: dict[str, Callable[[], Lesson]] = {
        "features": lambda: FeatureLesson(pair),
        "prompts": lambda: PromptLesson(pair, constants.prompts, constants.rounds, constants.weight),
        "end-to-end": lambda: EndToEndLesson(pair, constants.masks, constants.loss, constants.points),
        "fine-tuning": lambda: EndToEndLesson(pair, constants.masks, constants.loss, constants.points),
        "layers": lambda: LayerLesson(
            pair, *widths, constants.rise * steps / max(1, len(widths[0]) - 1), seed
        ),
        "decoder": lambda: DecoderLesson(pair, constants.decoder_prompts),
        "masked": lambda: MaskedLesson(pair, constants.ratio, constants.depth, constants.width, seed),
    }
    return made[stage.name]()
