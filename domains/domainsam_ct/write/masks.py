"""Masks on the grid of the volume they were made from: written slice by slice, and read back."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError, OutputError
from domainsam.infer.blend import clip_window, slice_within
from domainsam.protocols import Window
from domainsam.staging import Staging
from domainsam_ct.read.geometry import NativeGeometry, from_axial, to_axial
from domainsam_ct.read.planes import PlaneStore

GZIP_LEVEL = 6


class MaskWriter:
    """A mask file that is written slice by slice: a :class:`domainsam.protocols.Writer`.

    Labels are staged in a nameless file. Leaving the ``with`` block normally
    turns them into the mask, which appears when it is complete; leaving it by
    an exception leaves nothing behind. Slices never written are 0.

    Parameters
    ----------
    path
        ``.nii`` or ``.nii.gz``, or ``.nrrd`` or ``.mha``.
    native
        Grid of the volume: the mask lies on it voxel for voxel.
    labels
        Names by value; they go into the file's header. 0 is background and
        need not be named.
    overwrite
        Whether an existing file may be replaced.
    scratch
        Folder for the staged labels, a byte for each voxel.

    Raises
    ------
    InputError
        If the name ends in none of these.
    OutputError
        On entering, if the file exists or its folder cannot be written; on
        leaving, if the disk refuses.
    """

    def __init__(
        self,
        path: str | Path,
        native: NativeGeometry,
        labels: Mapping[int, str],
        *,
        overwrite: bool = False,
        scratch: Path | None = None,
    ) -> None:
        self.path = Path(path)
        self.native = native
        self.labels = {value: name for value, name in labels.items() if value != 0}
        check_mask_name(self.path)
        self._shape = native.orientation.canonical_shape(native.shape)
        self._staging = Staging([self.path], overwrite=overwrite)
        self._scratch = scratch
        self._store: PlaneStore | None = None

    def __enter__(self) -> Self:
        self._staging.__enter__()
        try:
            axis = self.native.orientation.slice_axis
            self._store = PlaneStore.temporary(self.native.shape, np.dtype(np.uint8), axis, self._scratch)
        except BaseException as error:
            self._staging.__exit__(type(error), error, None)
            raise
        return self

    def write_slices(self, start: int, labels: NDArray[np.uint8]) -> None:
        """Write canonical axial slices ``(x, y, n)`` from number ``start`` on.

        Raises
        ------
        OutputError
            If the disk refuses.
        """
        width, height, count = self._shape
        stop = start + labels.shape[2]
        if labels.shape[:2] != (width, height) or not 0 <= start < stop <= count:
            raise ValueError(f"slices {start} to {stop} of {labels.shape} do not fit a mask of {self._shape}")
        first, _ = self.native.orientation.native_slices(start, stop, count)
        self._staged.write_slices(first, self.native.orientation.to_native(labels))

    def write(self, index: Window, values: NDArray[np.uint8]) -> None:
        """Write part of an axial slice, as :class:`~domainsam_ct.read.open.VolumeSource` reads it."""
        width, height, count = self._shape
        first, _ = self.native.orientation.native_slices(index.frame, index.frame + 1, count)
        slices = self.native.orientation.to_canonical(self._staged.read_slices(first, first + 1))
        image = to_axial(slices)[0].copy()
        part = clip_window(index, (0, height), (0, width))
        image[part.slices] = values[slice_within(part, (index.row, index.col))]
        self.write_slices(index.frame, from_axial(image[None]))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except BaseException as failure:
            self._staging.__exit__(type(failure), failure, failure.__traceback__)
            raise
        else:
            self._staging.__exit__(kind, error, trace)
        finally:
            self._staged.close()

    @property
    def _staged(self) -> PlaneStore:
        assert self._store is not None, "write inside the with block"
        return self._store

    def _finish(self) -> None:
        target = self._staging[self.path]
        try:
            if self.path.name.lower().endswith((".nii", ".nii.gz")):
                self._write_nifti(target)
            else:
                from domainsam_ct.read.itk import write_itk_mask

                write_itk_mask(target, self._staged, self.native, self.labels)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                f"cannot write '{self.path}' ({error.strerror or error}): free some space, "
                "or choose another folder"
            ) from error

    def _write_nifti(self, target: Path) -> None:
        from domainsam_ct.read.nifti import make_mask_header

        with _compressed(target) as file:
            file.write(make_mask_header(self.native, self.labels))
            for start, stop in self._staged.slabs():
                file.write(np.ascontiguousarray(self._staged.read_slab(start, stop).transpose(2, 1, 0)).data)


def check_mask_name(path: Path) -> None:
    """Refuse a name that says no format.

    Raises
    ------
    InputError
        If the name ends in no format that masks are written in.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz", ".nrrd", ".mha")):
        raise InputError(f"{path}: a mask is written as .nii.gz, .nii, .nrrd or .mha; choose such a name")


@contextmanager
def _compressed(target: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with target.open("wb") as file:
        if not target.name.lower().endswith(".gz"):
            yield file
            return
        # Neither a name nor the time of writing: equal masks make equal files.
        with gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as packed:
            yield packed
