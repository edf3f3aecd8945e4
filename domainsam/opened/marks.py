"""Objects that a person marks in an opened scene: coordinates, files of marks, or objects themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from domainsam.errors import ConfigError
from domainsam.grid import Grid
from domainsam.io.marks import place_marks, read_marks
from domainsam.protocols import PromptSource, SceneObject

Marks = str | Path | Sequence[Any] | NDArray[Any]
"""A file of marks, or coordinates."""
Frame = str | int | None
"""Frame of coordinates by name, or a slice."""


def require_one_way(
    points: Marks | None,
    boxes: Marks | None,
    marks: str | Path | Sequence[SceneObject] | None,
    source: PromptSource | None,
    labels: str | Sequence[str] | None,
) -> None:
    """Refuse to mark nothing, or objects in two ways.

    Raises
    ------
    ConfigError
        If so, or if labels are given for objects that bear their own.
    """
    given = points is not None or boxes is not None
    if sum((given, marks is not None, source is not None)) != 1:
        raise ConfigError("mark objects in one way: points and boxes, or marks, or a source")
    if labels is not None and not given:
        raise ConfigError("labels belong to points and boxes; marks and sources bear their own")


def gather_marks(
    grid: Grid,
    voxels: Grid | None,
    points: Marks | None,
    boxes: Marks | None,
    marks: str | Path | Sequence[SceneObject] | None,
    labels: str | Sequence[str] | None,
    frame: Frame,
) -> list[SceneObject]:
    """Objects in pixels of a scene: of ``marks`` first, then of files, then of coordinates.

    Parameters
    ----------
    grid
        The scene's.
    voxels
        Of a volume, the grid of the file's own axes.
    points, boxes, marks, labels, frame
        As of :meth:`~domainsam.opened.scene.Opened.find`.

    Raises
    ------
    ConfigError
        If a slice is given for a file.
    InputError
        If a file cannot be read, or coordinates cannot be placed.
    """

    def read(path: str | Path, kind: Any) -> Sequence[SceneObject]:
        if isinstance(frame, int):
            raise ConfigError(f"a file says the slices of its marks itself, but frame={frame} was given")
        return read_marks(path, grid, kind=kind, frame=frame, voxels=voxels)

    objects = list(read(marks, "marks") if isinstance(marks, str | Path) else marks or ())
    listed: dict[str, Sequence[Any] | NDArray[Any]] = {}
    for name, given in (("points", points), ("boxes", boxes)):
        if isinstance(given, str | Path):
            objects += read(given, "boxes" if name == "boxes" else "marks")
        elif given is not None:
            listed[name] = given
    if listed:
        objects += place_marks(grid, **listed, labels=labels, frame=frame, voxels=voxels)
    return objects
