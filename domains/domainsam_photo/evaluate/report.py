"""The report: one HTML file that needs nothing else: no network, no scripts, no other files."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from domainsam import __version__
from domainsam.io.pages import render
from domainsam_photo.evaluate.evaluate import Evaluation
from domainsam_photo.evaluate.word_scores import WordEvaluation
from domainsam_photo.write.overlay import encode_jpeg

CASES = 6
"""Pictured cases: those with the lowest scores."""
PICTURE = 360
"""Longest side of a picture in the report, in pixels."""
HIT, MISSED, FALSE = (60, 170, 80), (220, 60, 40), (50, 90, 220)
SHARE = 0.6


@dataclass(frozen=True)
class Case:
    """One pictured case: the picture with agreement, misses and false parts over it, as JPEG."""

    name: str
    score: float
    picture: bytes


@dataclass
class Gallery:
    """Keeps the cases with the lowest scores as pictures while an evaluation goes on."""

    most: int = CASES
    cases: list[Case] = field(default_factory=list)

    def __call__(
        self,
        name: str,
        score: float,
        picture: NDArray[np.uint8],
        truth: NDArray[np.bool_],
        answer: NDArray[np.bool_],
    ) -> None:
        """Look at one case; it is kept if it is among the worst."""
        if len(self.cases) == self.most and score >= self.cases[-1].score:
            return
        self.cases.append(Case(name, score, draw_case(picture, truth, answer)))
        self.cases.sort(key=lambda case: (case.score, case.name))
        del self.cases[self.most :]


def draw_case(picture: NDArray[np.uint8], truth: NDArray[np.bool_], answer: NDArray[np.bool_]) -> bytes:
    """A picture with what both have in green, what was missed in red, what is false in blue; JPEG."""
    drawn = picture.astype(np.float32)
    for part, colour in ((truth & answer, HIT), (truth & ~answer, MISSED), (answer & ~truth, FALSE)):
        drawn[part] = drawn[part] * (1 - SHARE) + np.array(colour, np.float32) * SHARE
    image = Image.fromarray(np.rint(drawn).astype(np.uint8))
    image.thumbnail((PICTURE, PICTURE))
    return encode_jpeg(np.asarray(image))


def render_report(result: Evaluation | WordEvaluation, data: str, command: str, cases: list[Case]) -> str:
    """The whole page as text."""
    columns, rows = result.table()
    return render(
        "domainsam_photo",
        "report.html.j2",
        result=result,
        columns=columns,
        rows=rows,
        means=[(name, result.interval(name)) for name in result.measures],
        data=data,
        command=command,
        cases=cases,
        version=__version__,
    )
