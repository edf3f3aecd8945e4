"""Options of ``domainsam ct ask`` as a frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from domainsam_ct.settings import SegmentOptions

if TYPE_CHECKING:
    from domainsam.prompter.language.speakers import AskOptions

EVERY_MM = 5.0
"""Distance of the slices that are asked about: organs hardly change their outline in less."""
WINDOWS: dict[str, tuple[float, float]] = {
    "abdomen": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-450.0, 1050.0),
    "brain": (0.0, 80.0),
    "mediastinum": (-125.0, 225.0),
}
"""Hounsfield units that radiologists look at, by region: level and width of 40/400, -600/1500, 300/1500,
40/80 and 50/350 (Radiopaedia, "Windowing (CT)")."""


@dataclass(frozen=True)
class AskJobOptions:
    """One call of ``domainsam ct ask``, without its scan.

    Parameters
    ----------
    job
        What it has in common with ``ct segment``: outputs and machine.
    phrase
        What is looked for.
    ask
        Which language model is asked, and how.
    label
        What the mask calls it; by default made of the phrase.
    every
        Distance in millimetres of the slices that are asked about.
    parts
        So many parts that do not touch belong to it at most: 2 for kidneys or lungs.
    """

    job: SegmentOptions
    phrase: str
    ask: AskOptions
    label: str
    every: float = EVERY_MM
    parts: int = 1
