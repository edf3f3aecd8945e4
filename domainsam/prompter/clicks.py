"""Objects that a person marked: points, boxes and rough masks, given to every pack in one form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from domainsam.errors import InputError
from domainsam.protocols import Click, SceneObject, View, Window


class Clicks:
    """What a person marked, as a :class:`~domainsam.protocols.PromptSource`.

    Parameters
    ----------
    objects
        In scene coordinates; :func:`domainsam.io.marks.read_marks` reads them from files.
    origin
        Where they come from, a file's name for example: the first words of errors.
    """

    def __init__(self, objects: Sequence[SceneObject], origin: str = "marks") -> None:
        self.objects = tuple(objects)
        self.origin = origin

    def find(self, view: View) -> Iterator[SceneObject]:
        """The marked objects in the order in which they were given, all checked before the first.

        Raises
        ------
        InputError
            If one does not lie inside the view, or in a frame that there is not.
        """
        for number, one in enumerate(self.objects, 1):
            name = f"{self.origin}: object {number}" + (f" ({one.label})" if one.label else "")
            _check_frame(name, one.bounds, view.frames)
            _check_place(name, one, view.shape)
        return iter(self.objects)


def _check_frame(name: str, bounds: Window, frames: int) -> None:
    if not 0 <= bounds.frame < frames:
        expected = f"frames 0 to {frames - 1}" if frames > 1 else "one frame, number 0"
        raise InputError(f"{name} lies in frame {bounds.frame}; the scene has {expected}")


def _check_place(name: str, one: SceneObject, shape: tuple[int, int]) -> None:
    rows, columns = shape
    size = f"the scene has x from 0 to {columns} and y from 0 to {rows} (pixels)"
    for point in one.points:
        if not _holds(point, shape):
            raise InputError(f"{name}: point ({point.x:g}, {point.y:g}) lies outside; {size}")
    bounds = one.bounds
    inside = (
        bounds.row >= 0
        and bounds.col >= 0
        and bounds.row + bounds.height <= rows
        and bounds.col + bounds.width <= columns
    )
    if not inside:
        corners = (bounds.col, bounds.row, bounds.col + bounds.width, bounds.row + bounds.height)
        raise InputError(f"{name}: left, top, right, bottom are {corners}, partly outside; {size}")


def _holds(point: Click, shape: tuple[int, int]) -> bool:
    return 0 <= point.x < shape[1] and 0 <= point.y < shape[0]
