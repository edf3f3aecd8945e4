"""What was found in an opened scene: objects and arrays on its grid, and the pack's files of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.infer.blend import NODATA
from domainsam.infer.found import UNNAMED, FoundObject
from domainsam.infer.objects import EngineResult
from domainsam.infer.store import RawRaster
from domainsam.protocols import Foundation

if TYPE_CHECKING:
    from domainsam.opened.scene import Opened


class Found:
    """What prompts marked in an opened scene, decoded; arrays are made when they are asked for.

    Parameters
    ----------
    opened
        The scene.
    answer
        What the engine staged.
    foundation
        Who decoded it; None where an example was compared by other features.
    """

    def __init__(self, opened: Opened, answer: EngineResult, foundation: Foundation | None) -> None:
        self.opened, self.answer, self.foundation = opened, answer, foundation

    @property
    def objects(self) -> tuple[FoundObject, ...]:
        """Label, score and bounds of every object, in the order of the prompts."""
        return self.answer.objects

    @property
    def told(self) -> Mapping[str, Any]:
        """What a search by example tells of itself: where organs end and why, what a similarity means."""
        return self.answer.told

    @property
    def names(self) -> tuple[str, ...]:
        """Labels of the objects; ``object`` where none bears one."""
        return self.answer.names or (UNNAMED,)

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """Which of :attr:`names` each pixel is, from 1; 0 where nothing is.

        ``(rows, columns)`` uint8; of a volume ``(slices, rows, columns)``.

        Raises
        ------
        InputError
            If the scene is closed.
        """
        answer, path = self.answer, self._staged()
        labels = np.zeros((answer.frames, *answer.shape), np.uint8)
        with RawRaster.open(path, answer.shape, answer.frames) as stored:
            for window in stored.bands(1 << 22):
                values = stored.read(window)
                if answer.labels is None:
                    values = np.where(values == NODATA, values, values >= answer.level).astype(np.uint8)
                labels[window.frame][window.slices] = np.where(values == NODATA, np.uint8(0), values)
        return labels.reshape(self.opened.grid.shape)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Where any object is: bool, on the grid of the scene."""
        return self.labels > 0

    @property
    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """Where the objects of each label are: bool, on the grid of the scene."""
        return {name: self.labels == number for number, name in enumerate(self.names, start=1)}

    def _staged(self) -> Path:
        """The file that holds the labels, or where objects bear none the probability."""
        path = self.answer.labels or self.answer.probability
        if not path.exists():
            raise InputError("the scene is closed, so what was found is gone: read or save it before")
        return path

    def save(self, out: str | Path, **options: Any) -> Any:
        """Write it as the pack's command would, every file or none.

        Parameters
        ----------
        out
            As the command's ``-o``: polygons for ``urban``, a mask on the scan's
            own grid for ``ct``, a map for ``scene``.
        **options
            The command's options about its outputs, ``preview="p.png"`` or ``overwrite=True``.

        Returns
        -------
        The pack's result, as of :func:`domainsam.run`.

        Raises
        ------
        ConfigError
            If an option is unknown or impossible.
        InputError
            If the scene is closed.
        OutputError
            If a file exists already or cannot be written.
        """
        self._staged()
        save = self.opened.pack.load("save")
        return save(self.opened.source, self.answer, Path(out), self.foundation, **options)
