"""Options of ``domainsam ct propagate`` and ``domainsam ct find`` as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from domainsam_ct.settings import SegmentOptions

Kind = Literal["model", "foundation"]
KINDS: tuple[Kind, ...] = ("model", "foundation")
"""Whose features places are compared by, the default first: on CT the organ model's tell far more."""


@dataclass(frozen=True)
class PropagateOptions:
    """One call of ``domainsam ct propagate``, without its scan.

    ``job`` is what it has in common with ``ct segment``: outputs, model, marks, machine; ``mask`` holds
    the organ on some slices of the scan.
    """

    job: SegmentOptions
    mask: Path | None = None
    features: Kind = "model"


@dataclass(frozen=True)
class FindOptions:
    """One call of ``domainsam ct find``, without the scans that are searched.

    ``scan`` and ``mask`` are the example; ``job`` as of :class:`PropagateOptions`.
    """

    job: SegmentOptions
    scan: Path
    mask: Path
    features: Kind = "model"
