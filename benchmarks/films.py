"""How well objects are followed on films whose truth is known: real cut-outs that move over real photographs.

::

    python -m benchmarks.films DATA                 # J and F by the decoder alone and with likeness
    python -m benchmarks.films DATA --bends         # beside it, as for objects that bend
    python -m benchmarks.films DATA --fit [--bends]  # the weights, for domainsam/prompter/likeness.py

``DATA`` is the folder that ``recipes/embedded/corpus.py`` reads. Only photographs that its training holds
back are taken, as objects and as grounds: half of them to fit weights, half to report. An object goes along
a curve, grows or shrinks, turns, bends and changes its light; the ground pans behind it, and in every other
film another object passes. J and F are DAVIS's, of all pictures but the first.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.optimize import minimize

from domainsam.foundation import DEFAULT, load_foundation
from domainsam.infer.pictures import PictureView
from domainsam.prompter.followed import TrackOptions, look_at, start_object
from domainsam.prompter.likeness import Likeness, share_cells
from domainsam.prompter.track import follow
from domainsam.prompter.trackers import FeatureTracker
from domainsam.protocols import Foundation
from domainsam.train.samples import Record
from domainsam_photo.evaluate.scores import measure_contour, measure_region
from domainsam_photo.track import enlarge_numbers

SIZE = (288, 512)
LEAST, MOST = 0.02, 0.35
"""Of a photograph's area that an object of it may take to be cut out."""
PENALTY = 1e-5
DRAWS = 2000
"""Of the bootstrap over films."""
Mask = NDArray[np.bool_]
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class MadeFilm:
    """Pictures ``(H, W, 3)`` and the object's mask ``(H, W)`` in each."""

    name: str
    pictures: list[Picture]
    masks: list[Mask]


@dataclass(frozen=True)
class CutOut:
    """An object's pixels ``(h, w, 3)`` and how much of each it covers ``(h, w)``, 0 to 1."""

    name: str
    pixels: NDArray[np.float32]
    share: NDArray[np.float32]


def belongs(name: str, part: str) -> bool:
    """Whether a photograph is of the half for choosing or of the one for reporting."""
    return (hashlib.sha256(f"film {name}".encode()).digest()[0] % 2 == 0) == (part == "chosen")


def cut_objects(records: Sequence[Record], part: str) -> list[CutOut]:
    """The largest fitting object of every photograph of a half; of garments their wearer."""
    found = []
    for one in records:
        if (
            not one.held_back
            or one.source not in ("coco_open", "ccp", "feral_cat")
            or not belongs(one.name, part)
        ):
            continue
        masks = [np.isin(one.ids, group) for group in one.groups[-1:]] if one.source == "ccp" else []
        masks += [one.ids == number for number in np.unique(one.ids[one.ids > 0])] if not masks else []
        masks = [mask for mask in masks if LEAST < mask.mean() < MOST and _is_whole(mask)]
        if masks:
            mask = max(masks, key=lambda mask: int(mask.sum()))
            rows, cols = (slice(side.min(), side.max() + 1) for side in np.nonzero(mask))
            share = ndimage.gaussian_filter(mask[rows, cols].astype(np.float32), 0.7)
            found.append(CutOut(one.name, one.image[rows, cols].astype(np.float32), share))
    return found


def _is_whole(mask: Mask) -> bool:
    """Whether it does not touch the edge of the picture, and is mostly one piece."""
    if mask[[0, -1]].any() or mask[:, [0, -1]].any():
        return False
    parts, count = ndimage.label(mask)
    return bool(np.bincount(parts.ravel(), minlength=count + 1)[1:].max() > 0.9 * mask.sum())


def make_film(number: int, objects: Sequence[CutOut], grounds: Sequence[Record], frames: int) -> MadeFilm:
    """Film number so and so: the same for the same number."""
    rng = np.random.default_rng(number)
    one = objects[number % len(objects)]
    others = [ground for ground in grounds if ground.name != one.name]
    ground = others[int(rng.integers(len(others)))]
    wide = np.asarray(
        Image.fromarray(ground.image).resize(
            (int(SIZE[1] * 1.3), int(SIZE[0] * 1.5)), Image.Resampling.BICUBIC
        )
    )
    passer = objects[int(rng.integers(len(objects)))] if number % 2 else None
    paths = [_draw_path(rng, frames) for _ in range(2)]
    pan = rng.uniform(0, [SIZE[0] * 0.4, SIZE[1] * 0.25], (2, 2))
    pictures, masks = [], []
    for frame in range(frames):
        way = frame / max(1, frames - 1)
        top, left = (pan[0] * (1 - way) + pan[1] * way).astype(int)
        picture = wide[top : top + SIZE[0], left : left + SIZE[1]].astype(np.float32)
        if passer is not None and passer.name != one.name:
            picture, _ = _lay(picture, passer, *paths[1](way))
        picture, mask = _lay(picture, one, *paths[0](way))
        noise = rng.normal(0, 2, picture.shape)
        pictures.append(np.clip(picture + noise, 0, 255).astype(np.uint8))
        masks.append(mask)
    return MadeFilm(f"{number}: {one.name} over {ground.name}", pictures, masks)


def _draw_path(rng: np.random.Generator, frames: int) -> Callable[[float], tuple[Any, ...]]:
    """Place, height, angle, bend and light of an object along a film, as a function of 0 to 1."""
    begin, end = rng.uniform([0.35, 0.25], [0.65, 0.75], (2, 2)) * SIZE
    sway = rng.uniform(-0.08, 0.08, 2) * SIZE
    # No more than 14 pixels a picture: a film of ten pictures a second.
    reach = float(np.hypot(*(end - begin)))
    end = begin + (end - begin) * min(1.0, 14 * frames / max(reach, 1.0))
    height = rng.uniform(0.3, 0.6) * SIZE[0]
    growth, turn = rng.uniform(-0.3, 0.3), rng.uniform(-25, 25)
    bend, light = rng.uniform(0, 0.06), rng.uniform(-0.15, 0.15)

    def at(way: float) -> tuple[Any, ...]:
        place = begin * (1 - way) + end * way + sway * np.sin(np.pi * way)
        return place, height * (1 + growth * way), turn * way, bend * np.sin(2 * np.pi * way), 1 + light * way

    return at


def _lay(
    picture: NDArray[np.float32],
    one: CutOut,
    place: NDArray[np.float64],
    height: float,
    turn: float,
    bend: float,
    light: float,
) -> tuple[NDArray[np.float32], Mask]:
    """The picture with an object over it, and the object's mask there."""
    rows, cols = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float64)
    scale = one.share.shape[0] / height
    angle = np.deg2rad(turn)
    down, right = (rows - place[0]) * scale, (cols - place[1]) * scale
    y = np.cos(angle) * down - np.sin(angle) * right
    x = np.sin(angle) * down + np.cos(angle) * right
    x = x + bend * one.share.shape[0] * np.sin(np.pi * y / one.share.shape[0])
    at = [y + one.share.shape[0] / 2, x + one.share.shape[1] / 2]
    # Averaged first where it is made smaller.
    blur = max(0.0, 0.4 * (scale - 1))
    share = ndimage.map_coordinates(ndimage.gaussian_filter(one.share, blur), at, order=1)
    laid = picture.copy()
    for band in range(3):
        pixels = ndimage.gaussian_filter(one.pixels[..., band], blur)
        own = ndimage.map_coordinates(pixels, at, order=1, mode="nearest") * light
        laid[..., band] = own * share + picture[..., band] * (1 - share)
    return laid.astype(np.float32), np.asarray(share > 0.5)


def make_films(data: Path, part: str, count: int, frames: int) -> Iterator[MadeFilm]:
    """Films of a half."""
    from recipes.embedded.corpus import ccp, coco_open, feral_cat

    records = [one for source in (coco_open, ccp, feral_cat) for one in source(data) if one.held_back]
    objects = cut_objects(records, part)
    grounds = [one for one in records if one.source == "coco_open" and belongs(one.name, part)]
    for number in range(count):
        yield make_film(number, objects, grounds, frames)


def follow_film(film: MadeFilm, foundation: Foundation, options: TrackOptions) -> NDArray[np.float64]:
    """Mean J and F ``(2,)`` of a film whose first picture's mask is given."""
    view = PictureView(lambda frame: film.pictures[frame], len(film.pictures), foundation)
    marked, tracker = view.shrink_mask(film.masks[0]), FeatureTracker(foundation.image_size)
    scores = []
    for answer in follow(view, [marked], foundation, tracker, options):
        if answer.frame:
            truth, own = film.masks[answer.frame], enlarge_numbers(answer.labels, view.original) > 0
            scores.append((measure_region(truth, own), measure_contour(truth, own)))
    return np.mean(scores, axis=0)


def collect_terms(
    film: MadeFilm, foundation: Foundation, bends: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Terms of likeness ``(N, 3)`` of all cells near the object, and how much of each it covers ``(N,)``.

    Of what bends there are four.
    Labels are carried as the weights that ship have it: with other terms this is to be run again with its
    own result, until that stays.
    """
    view = PictureView(lambda frame: film.pictures[frame], len(film.pictures), foundation)
    tracker, options = FeatureTracker(foundation.image_size), TrackOptions(likeness=True, bends=bends)
    one = start_object(view, view.shrink_mask(film.masks[0]), 0, foundation, tracker, options)
    if one.likeness is None:
        return np.zeros((0, 3 + bends)), np.zeros(0)
    plain = one.likeness
    terms: list[NDArray[np.float64]] = []
    shares: list[NDArray[np.float64]] = []

    class Recorded(Likeness):
        """Keeps what is compared."""

        def compare(self, *given: Any) -> Any:
            found, near = super().compare(*given)
            share = share_cells(film.masks[given[3].frame], given[3])
            terms.append(found[:, near].T.astype(float))
            shares.append(share[near].astype(float))
            return found, near

    one.likeness = Recorded(plain.contrast, plain.depth, plain.window, plain.points, plain.carried)
    for frame in range(1, len(film.pictures)):
        one.move(tracker, view, frame, options)
        look_at(one, view, frame, foundation, [], options)
    return np.concatenate([np.zeros((0, 3 + bends)), *terms]), np.concatenate([np.zeros(0), *shares])


def fit_weights(parts: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> NDArray[np.float64]:
    """Weights of the terms, and the bias: logistic regression, objects weighing the same."""
    table = np.concatenate([np.c_[terms, np.ones(len(terms))] for terms, _ in parts])
    share = np.concatenate([share for _, share in parts])
    weight = np.concatenate([np.full(len(share), 1 / max(1.0, share.sum())) for _, share in parts])
    weight /= weight.sum()

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = table @ values
        price = weight @ (share * np.logaddexp(0, -odds) + (1 - share) * np.logaddexp(0, odds))
        slope = weight * (0.5 * (1 + np.tanh(odds / 2)) - share)
        return float(price + PENALTY * (values**2).sum()), table.T @ slope + 2 * PENALTY * values

    return np.asarray(minimize(loss, np.zeros(table.shape[1]), jac=True, method="L-BFGS-B").x)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--fit", action="store_true", help="print weights, fitted on the half for choosing")
    parser.add_argument("--bends", action="store_true", help="compare what bends with likeness alone")
    parser.add_argument("--foundation", default=DEFAULT)
    parser.add_argument("--count", type=int, default=12, help="films")
    parser.add_argument("--frames", type=int, default=8, help="pictures of a film")
    given = parser.parse_args()
    foundation, write = load_foundation(given.foundation), sys.stdout.write
    films = make_films(given.data, "chosen" if given.fit else "reported", given.count, given.frames)
    if given.fit:
        fitted = fit_weights([collect_terms(film, foundation, given.bends) for film in films])
        write(f"{'bending' if given.bends else 'plain'} {fitted.round(3).tolist()}\n")
        return
    rows = []
    ways = TrackOptions(likeness=given.bends, bends=False), TrackOptions(likeness=True, bends=given.bends)
    words = ("as it is", "as bending") if given.bends else ("decoder alone", "with likeness")
    for film in films:
        rows.append([follow_film(film, foundation, way) for way in ways])
        write(f"{film.name}: J, F {np.round(rows[-1][0], 3)}, {words[1]} {np.round(rows[-1][1], 3)}\n")
        sys.stdout.flush()
    table, rng = np.array(rows), np.random.default_rng(0)
    both = np.stack([*table.mean(axis=2).T, table[:, 1].mean(axis=1) - table[:, 0].mean(axis=1)])
    draws = both[:, rng.integers(len(table), size=(DRAWS, len(table)))].mean(axis=2)
    for name, values, drawn in zip((*words, "difference"), both, draws, strict=True):
        low, high = np.quantile(drawn, [0.025, 0.975])
        write(f"{name}: J&F {values.mean():.3f} [{low:.3f}, {high:.3f}]\n")


if __name__ == "__main__":
    main()
