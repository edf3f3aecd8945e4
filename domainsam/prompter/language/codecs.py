"""How families of models write places in a picture: numbers to text, and text to fractions of its sides.

Places are fractions of width and height, 0 to 1, whatever the size of the picture that a model sees. What
families write is told by their makers' documentation: SAM4MLLM three digits, 1000 steps a side; Qwen2.5-VL
pixels of the resized picture; Qwen3-VL and InternVL 0 to 1000; PaliGemma ``<loc0000>`` to ``<loc1023>`` with
y first; Florence-2 ``<loc_0>`` to ``<loc_999>``, of which each stands for the middle of its step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from domainsam.errors import ConfigError

Fractions = tuple[float, float, float, float]
"""Left, top, right, bottom as fractions of width and height."""
Spot = tuple[float, float, bool]
"""A point as fractions of width and height, and whether it lies on the object or beside it."""
Size = tuple[int, int]
"""Height and width in pixels of the picture as the model sees it."""

NUMBER = r"\s*-?\d{1,9}(?:\.\d{1,9})?\s*"
BRACKETS = re.compile(rf"[\[(]+({NUMBER}),({NUMBER})[\])]*\s*,[\s\[(]*({NUMBER}),({NUMBER})[\])]+")
"""Four numbers: ``[1,2,3,4]``, ``[[1, 2, 3, 4]]``, ``(1,2),(3,4)``."""
SPOTS = re.compile(rf"[\[(]({NUMBER}),({NUMBER})(?:,\s*([01])\s*)?[\])]")
"""A point, ``(1,2)``, ``[1, 2]``, or with what it is, ``(1,2,1)``."""


class OutsideError(ValueError):
    """A place that is written lies outside the picture, or is empty."""


@dataclass(frozen=True)
class CoordinateCodec:
    """How a family writes places.

    Parameters
    ----------
    name
        As ``--coordinates`` calls it.
    steps
        Steps that a side has; None where numbers are pixels of the picture that the model sees.
    most
        Greatest number that is written.
    centred
        Whether a number stands for the middle of its step, or for where the step begins.
    digits
        Least number of digits.
    tokens
        Pattern of one number's own token, with the number as group 1; None where numbers stand in brackets.
    token
        Format of such a token.
    y_first
        Whether y is written before x.
    frame
        What is told to a model of its numbers.
    """

    name: str
    steps: int | None
    most: int | None
    centred: bool = False
    digits: int = 1
    tokens: re.Pattern[str] | None = None
    token: str = ""
    y_first: bool = False
    frame: str = ""

    def number(self, fraction: float, side: int) -> int:
        """The number that stands for a fraction of a side; ``side`` in pixels counts for pixels alone."""
        steps = self.steps or side
        most = steps if self.most is None else self.most
        place = fraction * steps
        return min(max(int(place // 1) if self.centred else round(place), 0), most)

    def fraction(self, number: float, side: int) -> float:
        """The fraction of a side that a number stands for.

        Raises
        ------
        OutsideError
            If it lies outside the picture.
        """
        steps = self.steps or side
        if not 0 <= number <= steps:
            raise OutsideError(f"{number:g} is outside of 0 to {steps}")
        return min((number + 0.5 * self.centred) / steps, 1.0)

    def write_box(self, box: Fractions, size: Size) -> str:
        """A box as the family writes it."""
        return self._write(box, size, "[", "]")

    def write_point(self, point: tuple[float, float], size: Size, inside: bool | None = None) -> str:
        """A point as the family writes it; with 1 or 0 after it where ``inside`` is given."""
        text = self._write(point, size, "(", ")")
        return text if inside is None or self.tokens is not None else f"{text[:-1]},{int(inside)})"

    def _write(self, values: Sequence[float], size: Size, start: str, end: str) -> str:
        numbers = [self.number(value, size[1 - place % 2]) for place, value in enumerate(values)]
        if self.y_first:
            numbers = [numbers[place ^ 1] for place in range(len(numbers))]
        if self.tokens is not None:
            return "".join(self.token % number for number in numbers)
        return start + ",".join(f"{number:0{self.digits}d}" for number in numbers) + end

    def read(self, text: str, size: Size) -> list[tuple[Fractions | None, list[Spot]]]:
        """Boxes in a text with the points written after each; points before the first box have none.

        Raises
        ------
        OutsideError
            If a number lies outside the picture, or a box is empty.
        """
        found: list[tuple[Fractions | None, list[Spot]]] = []
        for part in self._parts(text):
            if len(part) >= 4:
                left, top, right, bottom = self._place(part[:4], size)
                if left >= right or top >= bottom:
                    raise OutsideError(f"the box {_listed(part[:4])} is empty")
                found.append(((left, top, right, bottom), []))
                continue
            if not found:
                found.append((None, []))
            x, y = self._place(part[:2], size)
            found[-1][1].append((x, y, len(part) < 3 or part[2] == 1))
        return found

    def _place(self, numbers: Sequence[float], size: Size) -> list[float]:
        ordered = [numbers[place ^ 1] for place in range(len(numbers))] if self.y_first else numbers
        return [self.fraction(number, size[1 - place % 2]) for place, number in enumerate(ordered)]

    def _parts(self, text: str) -> Iterator[tuple[float, ...]]:
        """Numbers that belong together, in the order of the text."""
        if self.tokens is not None:
            run = [float(match.group(1)) for match in self.tokens.finditer(text)]
            yield from (tuple(run[start : start + 4]) for start in range(0, len(run) - 3, 4))
            return
        at = 0
        while at < len(text):
            box, spot = BRACKETS.search(text, at), SPOTS.search(text, at)
            first = min((one for one in (box, spot) if one is not None), key=_begin, default=None)
            if first is None:
                return
            yield tuple(float(part) for part in first.groups() if part is not None)
            at = first.end()


def _begin(match: re.Match[str]) -> tuple[int, int]:
    """Where a match begins; of two at one place the longer is meant."""
    return match.start(), -match.end()


def _listed(numbers: Sequence[float]) -> str:
    return "[" + ", ".join(f"{number:g}" for number in numbers) + "]"


_STEPS = "Coordinates are whole numbers from {low} to {high} over the width and over the height."
CODECS: dict[str, CoordinateCodec] = {
    codec.name: codec
    for codec in (
        CoordinateCodec(
            "thousandths", 1000, 999, digits=3, frame=_STEPS.format(low="000", high="999, with three digits")
        ),
        CoordinateCodec("pixels", None, None, frame="Coordinates are pixels of the picture."),
        CoordinateCodec("thousand", 1000, 1000, frame=_STEPS.format(low="0", high="1000")),
        CoordinateCodec(
            "loc1024", 1024, 1023, tokens=re.compile(r"<loc(\d{4})>"), token="<loc%04d>", y_first=True
        ),
        CoordinateCodec(
            "loc1000", 1000, 999, centred=True, tokens=re.compile(r"<loc_(\d{1,4})>"), token="<loc_%d>"
        ),
    )
}
"""Ways to write places, by name."""
FAMILIES = (
    (r"qwen2[._]?5?[_-]?vl", "pixels"),
    (r"qwen3[._]?\d?[_-]?(vl|omni)|internvl", "thousand"),
    (r"paligemma", "loc1024"),
    (r"florence", "loc1000"),
)
"""Patterns of a model's kind or name, and how it writes places; all others are asked for thousandths."""


def choose_codec(kind: str, asked: str | None = None) -> CoordinateCodec:
    """How a model writes places: as ``asked``, or as its kind (``config.model_type``, or its name) says.

    Raises
    ------
    ConfigError
        If what is asked for is not known.
    """
    if asked is not None:
        if asked not in CODECS:
            raise ConfigError(f"coordinates are {asked!r}, expected one of: {', '.join(CODECS)}")
        return CODECS[asked]
    for pattern, name in FAMILIES:
        if re.search(pattern, kind.lower()):
            return CODECS[name]
    return CODECS["thousandths"]
