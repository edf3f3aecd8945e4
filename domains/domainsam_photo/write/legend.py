"""Pictures with a map of words drawn over them, and a legend below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from domainsam_photo.write.masks import choose_colour
from domainsam_photo.write.overlay import SHARE

ROW = 22
"""Pixels of a line of the legend."""
LEAST_WIDTH = 240
ENTRIES = 24
"""Words that a legend names; the JSON names all."""
LETTERS = 32
"""Of a word that a legend shows."""


def draw_map(
    picture: NDArray[np.uint8], numbers: NDArray[np.uint16], legend: Sequence[tuple[int, str, float]]
) -> NDArray[np.uint8]:
    """A picture ``(H, W, 3)`` with every place in its word's colour, and the legend below it.

    Parameters
    ----------
    numbers
        ``(H, W)``, 0 where no word fits.
    legend
        Number, word and share of the words that are there, the largest first.
    """
    present = np.unique(numbers)
    table = np.zeros((int(present.max()) + 1, 3), np.float32)
    for number in present.tolist():
        table[number] = choose_colour(number)
    drawn = picture.astype(np.float32)
    on = numbers > 0
    drawn[on] = drawn[on] * (1 - SHARE) + table[numbers[on]] * SHARE
    return np.concatenate(
        _same_width(np.rint(drawn).astype(np.uint8), _draw_legend(picture.shape[1], legend))
    )


def _same_width(*parts: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Pictures padded by white at the right to the widest one."""
    widest = max(part.shape[1] for part in parts)
    edges = [((0, 0), (0, widest - part.shape[1]), (0, 0)) for part in parts]
    return [np.pad(part, edge, constant_values=255) for part, edge in zip(parts, edges, strict=True)]


def _draw_legend(width: int, legend: Sequence[tuple[int, str, float]]) -> NDArray[np.uint8]:
    """The legend as a picture, white, in as many columns as fit."""
    columns = max(1, width // LEAST_WIDTH)
    shown = legend[:ENTRIES]
    rows = -(-len(shown) // columns)
    image = Image.new("RGB", (max(width, LEAST_WIDTH), rows * ROW + (8 if rows else 0)), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    for place, (number, word, share) in enumerate(shown):
        left, top = place % columns * LEAST_WIDTH + 6, place // columns * ROW + 4
        draw.rectangle((left, top + 2, left + 14, top + 16), fill=choose_colour(number))
        draw.text((left + 20, top), _label(number, word, share), fill="black", font=font)
    return np.asarray(image)


def _label(number: int, word: str, share: float) -> str:
    """A line of the legend; words in letters that the font lacks are told by their number in the JSON."""
    known = all(ord(sign) < 0x250 for sign in word)
    name = word if len(word) <= LETTERS else f"{word[: LETTERS - 3]}..."
    return f"{name if known else f'word {number}'} {share:.0%}"
