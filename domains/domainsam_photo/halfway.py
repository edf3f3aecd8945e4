"""What a run through a film has done, on disk, so that one that was killed goes on where it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from domainsam.errors import OutputError
from domainsam.infer.journal import Journal, digest, mark_file
from domainsam.infer.networks import identify
from domainsam.private import make_private_folder, open_privately
from domainsam.prompter.frozen import freeze, name_kinds, thaw
from domainsam.prompter.track import KINDS, Course, Ended
from domainsam.protocols import Foundation
from domainsam_photo.read.films import Film, PictureFolder
from domainsam_photo.read.pictures import read_numbers
from domainsam_photo.settings import TrackJobOptions
from domainsam_photo.write.masks import encode_numbers

SECONDS = 5.0
"""Between two states on disk: so much work a killed run does again at most, and one picture more."""


@dataclass
class Standing:
    """Where a run through a film stands.

    ``seen`` counts by object the pictures that show it, ``answered`` the answers; a picture may have two.
    """

    course: Course
    seen: list[int]
    answered: int = 0
    ended: list[Ended] = field(default_factory=list)


class Halfway:
    """Masks of pictures, and now and then the state of the run, in its work room.

    The state appears whole or not at all, and only then is it in the journal. Pictures that were answered
    after the last one are answered again: that paints the same over the same.

    Parameters
    ----------
    folder
        The run's work room.
    journal
        Of the run; its fingerprint has to say all that decides the masks.
    """

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.folder, self.masks, self._journal = folder, folder / "masks", journal
        self._count, self._last = len(journal.records), monotonic()

    def begin(self, objects: int, device: torch.device | str) -> Standing:
        """Where the run stands: at its beginning, or where an earlier one was cut short.

        Raises
        ------
        OutputError
            If the folder cannot be written.
        """
        for number in range(self._count, 0, -1):
            path = self._state(number)
            if path.is_file():
                with np.load(path, allow_pickle=False) as arrays:
                    return thaw(dict(arrays), STANDING, device)
        shutil.rmtree(self.masks, ignore_errors=True)
        make_private_folder(self.masks)
        return Standing(Course(), [0] * objects)

    def mask(self, frame: int) -> Path:
        """Where the mask of a picture lies."""
        return self.masks / f"{frame:05d}.png"

    def paint(self, frame: int, numbers: NDArray[np.uint8]) -> None:
        """Keep a mask ``(H, W)``; where one direction has painted already, only what it left free is painted.

        Raises
        ------
        OutputError
            If the disk refuses it.
        """
        path = self.mask(frame)
        if path.exists():
            before = read_numbers(path)
            numbers = np.where(before > 0, before, numbers).astype(np.uint8)
        self._write(path, encode_numbers(numbers))

    def note(self, standing: Standing) -> None:
        """Keep where the run stands, unless that was done :data:`SECONDS` ago or less.

        Raises
        ------
        OutputError
            If the disk refuses it.
        """
        if monotonic() - self._last < SECONDS:
            return
        self._count += 1
        arrays = freeze(standing, STANDING)
        path, before = self._state(self._count), self._state(self._count - 1)
        self._write_arrays(path, arrays)
        self._journal.append({"unit": ["state", self._count]})
        before.unlink(missing_ok=True)
        self._last = monotonic()

    def _state(self, number: int) -> Path:
        return self.folder / f"state{number}.npz"

    def _write_arrays(self, path: Path, arrays: dict[str, NDArray[Any]]) -> None:
        self._write(path, lambda file: np.savez(file, allow_pickle=False, **arrays))

    def _write(self, path: Path, content: Any) -> None:
        """Write a file so that it is there whole or not at all: bytes, or what a function writes."""
        making = path.with_suffix(".part")
        try:
            with os.fdopen(open_privately(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            making.replace(path)
        except OSError as error:
            raise OutputError(
                f"cannot write '{path}' ({error.strerror or error}): free some space, or choose another "
                "folder"
            ) from error


STANDING = {**KINDS, **name_kinds(Standing)}


def describe_run(
    film: Path, pictures: Film, options: TrackJobOptions, foundation: Foundation, precision: str
) -> dict[str, Any]:
    """All that decides the masks of a film, for the journal."""
    files: Sequence[Path] = pictures.files if isinstance(pictures, PictureFolder) else (film,)
    given = {"points": options.points, "boxes": options.boxes, "mask": options.mask}
    given["the tracker"] = options.tracker_weights
    return {
        "film": digest([mark_file(str(path)) for path in files]),
        "pictures": pictures.frames,
        **{f"file of {name}": path and mark_file(str(path)) for name, path in given.items()},
        "tracker": options.tracker,
        **asdict(options.track),
        "foundation": identify(foundation),
        "device": str(foundation.device),
        "precision": str(precision),
    }
