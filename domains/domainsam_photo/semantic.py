"""What every place of a picture shows, among words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from domainsam.errors import ConfigError
from domainsam.foundation import load_decoder
from domainsam.infer.batch import Batch as CoreBatch
from domainsam.infer.batch import run_batch
from domainsam.infer.outputs import OutputPlan
from domainsam.infer.pictures import PictureView
from domainsam.protocols import Foundation, Namer, Window, Word, WordMapper
from domainsam.staging import Staging, check_apart
from domainsam.vocabulary import load_vocabulary_model
from domainsam.vocabulary.names import tell_understood
from domainsam.vocabulary.refine import refine_scores
from domainsam.vocabulary.words import gather_words
from domainsam_photo.read.pictures import find_pictures, read_picture
from domainsam_photo.settings import SemanticOptions
from domainsam_photo.write.legend import draw_map
from domainsam_photo.write.masks import choose_colour, encode_map
from domainsam_photo.write.overlay import encode_jpeg

ALIGN = 32
SHOWN = 3
"""Words that the sentence about a picture names."""


@dataclass(frozen=True)
class MapPlan(OutputPlan):
    """A picture, and the files that are made of it: the map, the shares beside it, and the overlay."""

    picture: Path
    map: Path
    overlay: bool

    @property
    def shares(self) -> Path:
        """Shares of the words, JSON."""
        return self.map.with_suffix(".json")

    @property
    def drawn(self) -> Path:
        """The picture with the map over it and a legend, JPEG."""
        return self.map.with_name(f"{self.map.stem}_overlay.jpg")

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.map, self.shares, *((self.drawn,) if self.overlay else ()))


@dataclass(frozen=True)
class MapResult:
    """What became of one picture: the share of its pixels by word, largest first, and what fits no word."""

    picture: Path
    shares: dict[str, float]
    none: float
    paths: dict[str, Path]

    def document(self) -> dict[str, Any]:
        """The result as values that JSON can hold."""
        return {
            "picture": str(self.picture),
            "shares": {word: round(share, 4) for word, share in self.shares.items()},
            "none_fits": round(self.none, 4),
            "outputs": {kind: str(path) for kind, path in self.paths.items()},
        }

    def sentence(self) -> str:
        """One line for a person."""
        told = [f"{word} {share:.0%}" for word, share in list(self.shares.items())[:SHOWN]]
        told += [f"none of the words {self.none:.0%}"] if self.none >= 0.005 or not told else []
        return f"{self.picture.name}: {', '.join(told)}"


class Maps(CoreBatch[MapResult]):
    """What became of several pictures."""

    plural = "pictures"
    key = "picture"


def plan_maps(pictures: Sequence[Path], out: Path, overlay: bool) -> tuple[MapPlan, ...]:
    """The files of every picture: ``out`` is a file for one, a folder for several.

    Raises
    ------
    ConfigError
        If one file is named for several pictures, or of another format, or two pictures share a name.
    OutputError
        If an output is one of the pictures.
    """
    if out.suffix and not out.is_dir():
        if out.suffix.lower() != ".png":
            raise ConfigError(f"--out '{out}' must end in .png, or be a folder")
        if len(pictures) > 1:
            raise ConfigError(f"--out '{out}' is one file for {len(pictures)} pictures: give a folder")
        plans: tuple[MapPlan, ...] = (MapPlan(pictures[0], out, overlay),)
    else:
        plans = tuple(MapPlan(picture, out / f"{picture.stem}.png", overlay) for picture in pictures)
    check_apart([path for plan in plans for path in plan.files], pictures, "pictures")
    return plans


def map_pictures(
    inputs: Sequence[Path], options: SemanticOptions, watch: Callable[[MapResult], None] | None = None
) -> Maps:
    """Make a map of words of every picture, and write it.

    Raises
    ------
    ConfigError
        If there is no word, or the model makes no maps.
    InputError
        If a word is not understood, or nothing can be read.
    OutputError
        If an output exists or cannot be written.
    """
    words = gather_words(options.words, options.vocabulary)
    run = options.run
    plans = plan_maps(find_pictures(inputs), run.out, run.overlay)

    def prepare() -> Callable[[MapPlan], MapResult]:
        mapper = load_mapper(options)
        told = {"model": mapper.name, "understood": tell_understood(mapper.understand(words))}
        foundation = load_refiner(mapper, options)

        def work(plan: MapPlan) -> MapResult:
            picture = read_picture(plan.picture)
            numbers, scores = map_words(picture, mapper, words, foundation)
            return write_map(plan, picture, numbers, scores, words, told, run.overwrite or run.resume)

        return work

    return run_batch(
        plans,
        lambda plan: str(plan.picture),
        prepare,
        Maps,
        resume=run.resume,
        overwrite=run.overwrite or run.resume,
        watch=watch,
    )


def load_mapper(options: SemanticOptions) -> Any:
    """The model of words, which is a Namer and a WordMapper.

    Raises
    ------
    ConfigError
        If it makes no maps.
    """
    run = options.run
    model: Namer = load_vocabulary_model(options.vocabulary_model, run.device, run.precision)
    if not isinstance(model, WordMapper):
        raise ConfigError(
            f"{model.name} names objects and makes no maps: take another --vocabulary-model, or "
            "domainsam photo label"
        )
    return model


def load_refiner(mapper: Any, options: SemanticOptions) -> Foundation | None:
    """The foundation that sharpens maps: the one named, else the model's own, else the embedded one."""
    if not options.refine:
        return None
    own: Foundation | None = getattr(mapper, "foundation", None)
    if options.run.foundation is None and own is not None:
        return own
    return load_decoder(options.run.foundation, options.run.device, options.run.precision)[0]


def map_words(
    picture: NDArray[np.uint8], mapper: Any, words: Sequence[Word], foundation: Foundation | None = None
) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """The best word of every pixel ``(H, W)``, 0 where none fits better than none, and its score.

    Parameters
    ----------
    picture
        ``(H, W, 3)`` uint8.
    mapper
        A Namer and WordMapper.
    foundation
        Sharpens the map, if there is one.
    """
    view = PictureView(lambda _: picture, 1, foundation, mapper.side)
    rows, cols = view.shape
    window = Window(0, 0, -(-rows // ALIGN) * ALIGN, -(-cols // ALIGN) * ALIGN)
    scores = mapper.map_words(view, window, words)[:, : -(-rows // 4), : -(-cols // 4)]
    if foundation is not None:
        scores = refine_scores(np.ascontiguousarray(scores), picture, foundation)
    return choose_words(scores, view.original)


def choose_words(
    scores: NDArray[np.float32], shape: tuple[int, int]
) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """The best of scores ``(K, h, w)`` at every pixel of a picture of ``shape``, counted from 1, and its
    score.

    0 where what is left of 1 is larger than the best. Words that are best nowhere are not enlarged.
    """
    rest = 1 - scores.sum(axis=0)
    seen = np.unique(np.where(rest > scores.max(axis=0), 0, scores.argmax(axis=0) + 1))
    numbers = np.zeros(shape, np.uint16)
    # Float16 would do for masks, not for the differences of scores along edges.
    best = _enlarge(rest, shape)
    top = np.zeros(shape, np.float32)
    for number in seen[seen > 0]:
        one = _enlarge(scores[number - 1], shape)
        better = one >= best
        best[better], top[better] = one[better], one[better]
        numbers[better] = number
    return numbers, top


def _enlarge(values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    small = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None]
    return np.array(F.interpolate(small, shape, mode="bilinear", align_corners=False)[0, 0].numpy())


def write_map(
    plan: MapPlan,
    picture: NDArray[np.uint8],
    numbers: NDArray[np.uint16],
    scores: NDArray[np.float32],
    words: Sequence[Word],
    told: dict[str, Any],
    overwrite: bool,
) -> MapResult:
    """Write the map of one picture, every file or none.

    Raises
    ------
    OutputError
        If a file exists and may not be replaced, or cannot be written.
    """
    counts = np.bincount(numbers.ravel(), minlength=len(words) + 1)
    order = [int(number) for number in np.argsort(-counts[1:], kind="stable") + 1 if counts[number]]
    shares = {words[number - 1].name: float(counts[number] / numbers.size) for number in order}
    document = {
        "picture": plan.picture.name,
        "width": numbers.shape[1],
        "height": numbers.shape[0],
        **told,
        "words": [
            {
                "number": number,
                "word": word.name,
                "colour": list(choose_colour(number)),
                "pixels": int(counts[number]),
                "share": round(float(counts[number] / numbers.size), 6),
                "mean_score": round(float(scores[numbers == number].mean()), 4) if counts[number] else None,
            }
            for number, word in enumerate(words, 1)
        ],
        "none_fits": round(float(counts[0] / numbers.size), 6),
    }
    paths = {"map": plan.map, "shares": plan.shares}
    with Staging(plan.files, overwrite=overwrite) as staging:
        staging.write_bytes(plan.map, encode_map(numbers, len(words)))
        staging.write_text(plan.shares, json.dumps(document, ensure_ascii=False) + "\n")
        if plan.overlay:
            legend = [(number, words[number - 1].name, shares[words[number - 1].name]) for number in order]
            staging.write_bytes(plan.drawn, encode_jpeg(draw_map(picture, numbers, legend)))
            paths["overlay"] = plan.drawn
    return MapResult(plan.picture, shares, float(counts[0] / numbers.size), paths)
