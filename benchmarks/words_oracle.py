"""Show what SAM4MLLM's two modes reach with a language model that knows the answer.

An oracle answers from the masks of labelled photographs, through the real way of generating text; the same
boxes and points given to the foundation directly are the ceiling. Needs pictures with instance masks: a
folder with ``images`` and ``instances`` (PNG of numbers), such as COCO's.

    python benchmarks/words_oracle.py FOLDER [--most 60] [--foundation embedded]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from domainsam.foundation import load_foundation
from domainsam.infer.pictures import PictureView
from domainsam.prompter.descriptors import lay_windows
from domainsam.prompter.language.codecs import Spot
from domainsam.prompter.language.decoding import Place, decode_place
from domainsam.prompter.language.dialogues import best_spots, box_of, choose_spots, lies_on
from domainsam.prompter.language.source import LanguageSource, points_in
from domainsam.prompter.language.speakers import AskOptions
from domainsam.protocols import Foundation
from domainsam.testing.oracle import make_oracle

PHRASE = "it"
LEAST_AREA = 1600


def measure(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def find_objects(folder: Path, most: int) -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Pictures with one of their objects each, the largest that does not fill it and is not tiny."""
    found = []
    for path in sorted((folder / "instances").glob("*.png")):
        pictures = list((folder / "images").glob(f"{path.stem}.*"))
        numbers = np.asarray(Image.open(path))
        if not pictures or numbers.ndim != 2:
            continue
        picture = np.array(Image.open(pictures[0]).convert("RGB"))
        values, counts = np.unique(numbers[numbers > 0], return_counts=True)
        fit = [
            value
            for value, count in sorted(zip(values, counts, strict=True), key=lambda pair: -pair[1])
            if LEAST_AREA <= count <= numbers.size / 2
        ]
        found += [(picture, numbers == value) for value in fit[:2]]
    return found[:most]


class Trial:
    """One object of a picture, prompted in several ways."""

    def __init__(self, picture: NDArray[np.uint8], mask: NDArray[np.bool_], foundation: Foundation) -> None:
        self.picture, self.mask, self.foundation = picture, mask, foundation
        self.view = PictureView(lambda _: picture, 1, foundation)
        (self.window,) = lay_windows(self.view.shape, foundation.image_size)

    def prompt(self, spots: tuple[Spot, ...]) -> float:
        """IoU of what the foundation makes of the exact box and points."""
        place, features = Place(box_of(self.mask), spots), self.view.features(self.window)
        one = decode_place(place, self.view, self.window, features, self.foundation)
        return 0.0 if one is None else measure(self.view.enlarge_mask(one), self.mask)

    def ask(self, mode: str, sure: float, spots: tuple[Spot, ...] | None = None) -> float:
        """IoU of what is made of the oracle's text."""
        model, speaker = make_oracle(sure)
        if spots is not None:
            model.choose = lambda _: spots
        model.show(self.picture, {PHRASE: [self.mask]})
        source = LanguageSource(
            speaker, PHRASE, self.foundation, AskOptions("o", mode), shown=lambda _: self.picture
        )
        made = [self.view.enlarge_mask(one) for one in source.find(self.view)]
        return max((measure(one, self.mask) for one in made), default=0.0)

    def run(self, sets: int) -> dict[str, float]:
        """IoU by way."""
        best = best_spots(self.mask, self.prompt, np.random.default_rng(0), sets)
        pattern = points_in(box_of(self.mask), AskOptions("o"))
        known = tuple((x, y, lies_on(self.mask, x, y)) for x, y in pattern)
        return {
            "box, exact": self.prompt(()),
            "box, oracle's text (pqpp, no point sure)": self.ask("pqpp", 0.6),
            "box + 2 positive 1 negative, exact": self.prompt(choose_spots(self.mask)),
            "PPG, oracle's text, same points": self.ask("ppg", 0.99),
            f"box + best of {sets} sets, exact": self.prompt(best),
            f"PPG, oracle's text, best of {sets} sets": self.ask("ppg", 0.99, best),
            "box + 15 true points, exact": self.prompt(known),
            "PQPP, oracle's text and confidences": self.ask("pqpp", 0.99),
        }


def run(folder: Path, most: int, name: str, sets: int) -> dict[str, list[float]]:
    foundation = load_foundation(name)
    scores: dict[str, list[float]] = {}
    for picture, mask in find_objects(folder, most):
        for what, value in Trial(picture, mask, foundation).run(sets).items():
            scores.setdefault(what, []).append(value)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=60)
    parser.add_argument("--sets", type=int, default=16)
    parser.add_argument("--foundation", default="embedded")
    given = parser.parse_args()
    torch.set_num_threads(1)
    scores = run(given.folder, given.most, given.foundation, given.sets)
    for what, values in scores.items():
        print(f"{what:<44} mean IoU {np.mean(values):.3f}  median {np.median(values):.3f}  n {len(values)}")


if __name__ == "__main__":
    main()
