"""Options of the engine: tile, overlap, batch, prompts, threads."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from domainsam.errors import ConfigError
from domainsam.infer.tiling import ALIGN
from domainsam.machine import Precision

Method = Literal["objects", "coarse"]

NOT_PART_OF_THE_ANSWER = ("workers",)
VIEWS = (1, 4, 8)
"""A picture alone, its quarter turns, and these with their mirror images."""


@dataclass(frozen=True)
class EngineOptions:
    """How a scene is mapped.

    Parameters
    ----------
    tile, overlap
        Side of pass one's tiles, a multiple of 32, and the least overlap of neighbours, in pixels.
    batch_size
        Tiles, or crops, that go through the networks together.
    workers
        Threads that read ahead; the answer does not depend on them.
    threshold
        Probability from which a pixel belongs to an object, above 0 and at most 1. It cuts the
        probability and never changes it.
    proposal
        Probability from which what the specialist sees is proposed to the foundation, whatever the threshold.
    min_pixels
        Smaller objects are not proposed.
    views
        1, or 4 or 8 for the mean of pass one over quarter turns, and over their mirror images: steadier,
        as many times as slow.
    strip_width
        Columns mapped at a time, which bounds memory for wide scenes; a multiple of 32.
    offset
        Shift of pass one's tile grid in pixels (rows, columns), rounded down to multiples of 32.
    field
        Side of pass two's crops in pixels, a multiple of 32; None takes the
        size of image the foundation was trained on.
    method
        ``"objects"``: both passes. ``"coarse"``: the specialist alone.
    dtype
        Precision of the networks (autocast).

    Raises
    ------
    ConfigError
        If a value is impossible.
    """

    tile: int = 512
    overlap: int = 128
    batch_size: int = 4
    workers: int = 2
    threshold: float = 0.5
    proposal: float = 0.5
    views: int = 1
    min_pixels: int = 1
    strip_width: int = 8192
    offset: tuple[int, int] = (0, 0)
    field: int | None = None
    method: Method = "objects"
    dtype: Precision = "float32"

    def __post_init__(self) -> None:
        _require(self.tile >= ALIGN and self.tile % ALIGN == 0, "tile", self.tile, f"a multiple of {ALIGN}")
        _require(0 <= self.overlap < self.tile, "overlap", self.overlap, f"0 to {self.tile - 1}, below tile")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        _require(self.workers >= 1, "workers", self.workers, "1 or more")
        _require(0 < self.threshold <= 1, "threshold", self.threshold, "above 0 and at most 1")
        _require(0 < self.proposal <= 1, "proposal", self.proposal, "above 0 and at most 1")
        _require(self.views in VIEWS, "views", self.views, f"one of {', '.join(map(str, VIEWS))}")
        _require(self.min_pixels >= 1, "min_pixels", self.min_pixels, "1 or more")
        _require(self.strip_width >= ALIGN, "strip_width", self.strip_width, f"{ALIGN} or more")
        field_fits = self.field is None or (self.field >= ALIGN and self.field % ALIGN == 0)
        _require(field_fits, "field", self.field, f"a multiple of {ALIGN}")
        _require(self.method in ("objects", "coarse"), "method", self.method, "'objects' or 'coarse'")
        precisions = ("float32", "bfloat16", "float16")
        _require(self.dtype in precisions, "dtype", self.dtype, f"one of {', '.join(precisions)}")

    @property
    def margin(self) -> int:
        """Pixels along the edges of pass one's tiles from which no answer is taken where neighbours have one.

        Three eighths of what neighbours share: the last quarter of it blends one answer into the other.
        """
        return self.overlap * 3 // 8

    def fingerprint(self) -> dict[str, Any]:
        """The options that decide the answer, for a journal."""
        return {key: value for key, value in asdict(self).items() if key not in NOT_PART_OF_THE_ANSWER}


def _require(fits: bool, name: str, given: object, expected: str) -> None:
    if not fits:
        raise ConfigError(f"{name} is {given!r}, expected {expected}")
