"""Arrays of numpy and HDF5 from files of others: sizes from headers first, nothing unpickled."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.limits import require_memory
from domainsam.reading import reading

MOST_AXES = 8
COPIES = 3
"""An array as stored, in another type, and the pictures made of it."""
NUMBERS = "buif"
"""Kinds of numpy types that are numbers; others would be objects, dates or texts."""


def read_npz(path: Path, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """Arrays of an ``.npz`` file: those named, or all that it holds.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is damaged, locked, lacks an array, holds anything but numbers, or is too large.
    """
    with reading(path, "arrays of numpy"), zipfile.ZipFile(path) as archive:
        members = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        wanted = list(members) if names is None else list(names)
        missing = [name for name in wanted if name not in members]
        if missing:
            raise InputError(f"{path}: holds no array '{missing[0]}'; export it again")
        if any(members[name].flag_bits & 1 for name in wanted):
            raise InputError(f"{path}: is locked by a password; unpack it first")
        arrays, needed = {}, 0
        for name in wanted:
            with archive.open(members[name]) as file:
                shape, dtype = _read_header(path, file)
            needed += math.prod(shape) * dtype.itemsize
            require_memory(path, COPIES * needed, f"arrays of {needed} bytes unpacked")
        for name in wanted:
            with archive.open(members[name]) as file:
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
                # Reading on to the end has zipfile compare the checksum.
                if file.read(1):
                    raise InputError(f"{path}: holds more than its arrays say; export it again")
        return arrays


def read_npy(path: Path) -> NDArray[Any]:
    """The array of an ``.npy`` file.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is damaged, cut short, holds anything but numbers, or is too large.
    """
    with reading(path, "an array of numpy"), path.open("rb") as file:
        shape, dtype = _read_header(path, file)
        needed = math.prod(shape) * dtype.itemsize
        found = path.stat().st_size - file.tell()
        if found != needed:
            raise InputError(
                f"{path}: has {found} bytes of values where its header says {needed}: "
                "truncated or damaged; copy it again"
            )
        require_memory(path, COPIES * needed, f"an array of {needed} bytes")
        file.seek(0)
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return array


def read_h5(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Data sets of an HDF5 file, whole.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is damaged, a name is none of a data set of numbers, or they are too large.
    """
    import h5py

    with reading(path, "HDF5"), h5py.File(path, "r") as held:
        arrays, needed = {}, 0
        for name in names:
            found = held.get(name)
            if not isinstance(found, h5py.Dataset) or found.dtype.kind not in NUMBERS or found.shape is None:
                raise InputError(f"{path}: holds no data set of numbers '{name}'; export it again")
            needed += math.prod(found.shape) * found.dtype.itemsize
            require_memory(path, COPIES * needed, f"data sets of {needed} bytes unpacked")
        for name in names:
            arrays[name] = np.asarray(held[name])
        return arrays


def _read_header(path: Path, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type that an array's header says, checked before anything is made of them."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.kind not in NUMBERS or len(shape) > MOST_AXES or any(size < 0 for size in shape):
        raise InputError(f"{path}: holds {dtype} in {len(shape)} axes, expected numbers")
    return shape, dtype
