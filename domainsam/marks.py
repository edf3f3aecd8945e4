"""Which files say where objects are; :mod:`domainsam.io.marks` reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from domainsam.errors import MissingInputError


@dataclass(frozen=True)
class MarkFiles:
    """Files of marks, as ``--points``, ``--boxes`` and ``--marks-frame`` name them.

    Parameters
    ----------
    points
        Points, and polygons as rough masks.
    boxes
        Boxes, or polygons whose boxes count.
    frame
        Frame of the coordinates, where a file does not say it itself.
    """

    points: Path | None = None
    boxes: Path | None = None
    frame: str | None = None

    def __bool__(self) -> bool:
        """Whether any file is named."""
        return bool(self.paths)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are named."""
        return tuple(path for path in (self.points, self.boxes) if path is not None)

    def check(self) -> None:
        """Refuse files that are not there, before any work.

        Raises
        ------
        MissingInputError
            If one does not exist.
        """
        for path in self.paths:
            if not path.is_file():
                raise MissingInputError(f"{path}: no such file; check the path")
