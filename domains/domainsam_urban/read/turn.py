"""Turn a file's pixels round by quarter turns and mirrors, to run as near to north-up as they can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from affine import Affine
from numpy.typing import NDArray

Range = tuple[int, int]
"""Rows or columns, first and end."""


@dataclass(frozen=True)
class Turn:
    """How a view's pixels are found in a file: rows and columns exchanged, then either run backwards."""

    exchanged: bool = False
    rows: bool = False
    cols: bool = False

    @classmethod
    def upright(cls, transform: Affine) -> Turn:
        """The turn that brings a file of this place nearest to north-up."""
        exchanged = abs(transform.b) + abs(transform.d) > abs(transform.a) + abs(transform.e)
        across, down = (transform.b, transform.d) if exchanged else (transform.a, transform.e)
        # A file turned by 90 degrees has the sign that says which way its axes run in the other two numbers.
        return cls(exchanged, rows=down > 0, cols=across < 0)

    @property
    def any(self) -> bool:
        """Whether the view is not the file itself."""
        return self.exchanged or self.rows or self.cols

    def shape(self, filed: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the view of a file, or of a file of a view."""
        return (filed[1], filed[0]) if self.exchanged else filed

    def place(self, transform: Affine, filed: tuple[int, int]) -> Affine:
        """The place of the view of a file of ``filed`` rows and columns."""
        rows, cols = self.shape(filed)
        if self.exchanged:
            transform = transform @ Affine(0, 1, 0, 1, 0, 0)
        if self.rows:
            transform = transform @ Affine.translation(0, rows) @ Affine.scale(1, -1)
        if self.cols:
            transform = transform @ Affine.translation(cols, 0) @ Affine.scale(-1, 1)
        return transform

    def to_file(self, rows: Range, cols: Range, filed: tuple[int, int]) -> tuple[Range, Range]:
        """Rows and columns of the file that show some of the view's."""
        rows, cols = self._reverse(rows, cols, filed)
        return (cols, rows) if self.exchanged else (rows, cols)

    def to_view(self, rows: Range, cols: Range, filed: tuple[int, int]) -> tuple[Range, Range]:
        """Rows and columns of the view that show some of the file's."""
        if self.exchanged:
            rows, cols = cols, rows
        return self._reverse(rows, cols, filed)

    def _reverse(self, rows: Range, cols: Range, filed: tuple[int, int]) -> tuple[Range, Range]:
        """The view's rows and columns counted from its other ends, where those run backwards."""
        height, width = self.shape(filed)
        if self.rows:
            rows = height - rows[1], height - rows[0]
        if self.cols:
            cols = width - cols[1], width - cols[0]
        return rows, cols

    def as_view(self, values: NDArray[Any]) -> NDArray[Any]:
        """Pixels ``(..., h, w)`` of the file in the view's order."""
        return self._mirror(values.swapaxes(-1, -2) if self.exchanged else values)

    def as_filed(self, values: NDArray[Any]) -> NDArray[Any]:
        """Pixels ``(..., h, w)`` of the view in the file's order."""
        values = self._mirror(values)
        return values.swapaxes(-1, -2) if self.exchanged else values

    def _mirror(self, values: NDArray[Any]) -> NDArray[Any]:
        if self.rows:
            values = values[..., ::-1, :]
        return values[..., ::-1] if self.cols else values
