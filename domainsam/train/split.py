"""Split ground into training and validation blocks with a buffer between them.

The unit is a block of ground, not a scene or a tile. Scenes that overlap show
the same block, and a block is on one side only, so nothing that is trained on
is ever judged, however the scenes were cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError

Float64 = NDArray[np.float64]
METRES_PER_DEGREE = 111_195.0
"""Of latitude, on a sphere of the Earth's mean radius; blocks need no more accuracy than that."""

BlockKey = tuple[int, int]
"""Row and column of a block, counted from the equator and the prime meridian."""


@dataclass(frozen=True)
class BlockOptions:
    """How ground is cut and shared out.

    Parameters
    ----------
    size_m
        Side of a block in metres.
    buffer_m
        Ground within this distance of a validation block is on neither side.
    share
        Wanted share of the labelled settlement (of the ground where there is
        none) for validation.
    seed
        Decides the order in which blocks are taken.
    """

    size_m: float = 250.0
    buffer_m: float = 20.0
    share: float = 0.25
    seed: int = 0


def to_ground_metres(lon_lat: Float64, size_m: float) -> Float64:
    """Positions ``(..., 2)`` as metres east and north, from degrees ``(..., 2)`` lon, lat.

    Each row of blocks is measured along the parallel of its middle, so that
    blocks are squares at every latitude and depend on nothing but place.
    """
    lon, lat = lon_lat[..., 0], lon_lat[..., 1]
    north = lat * METRES_PER_DEGREE
    middle = (np.floor(north / size_m) + 0.5) * size_m / METRES_PER_DEGREE
    east = lon * METRES_PER_DEGREE * np.cos(np.deg2rad(middle))
    return np.stack([east, north], axis=-1)


def find_blocks(metres: Float64, size_m: float) -> NDArray[np.int64]:
    """Row and column ``(..., 2)`` of the block that holds each position ``(..., 2)``, east and north."""
    return np.floor(metres[..., ::-1] / size_m).astype(np.int64)


@dataclass(frozen=True)
class BlockSplit:
    """The validation blocks; every other block is for training."""

    options: BlockOptions
    validation: frozenset[BlockKey]

    def is_validation(self, lon_lat: Float64) -> NDArray[np.bool_]:
        """Whether each position ``(..., 2)``, degrees lon and lat, is validation ground."""
        metres = to_ground_metres(lon_lat, self.options.size_m)
        return self._member(find_blocks(metres, self.options.size_m))

    def is_training(self, lon_lat: Float64) -> NDArray[np.bool_]:
        """Whether each position is training ground: farther than the buffer from validation."""
        size, reach = self.options.size_m, self.options.buffer_m
        near = self.is_validation(lon_lat)
        # A square's border is within reach if one of these steps crosses it; blocks are wider than the steps.
        steps = np.linspace(-1, 1, 2 * max(1, int(np.ceil(reach / size))) + 1) * reach
        for north in steps:
            for east in steps:
                if east or north:
                    near |= self.is_validation(_moved(lon_lat, east, north))
        return ~near

    def _member(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        unique, inverse = np.unique(keys.reshape(-1, 2), axis=0, return_inverse=True)
        inside = np.array([(int(row), int(col)) in self.validation for row, col in unique], dtype=bool)
        return inside[inverse.reshape(-1)].reshape(keys.shape[:-1])


def _moved(lon_lat: Float64, east: float, north: float) -> Float64:
    lat = lon_lat[..., 1] + north / METRES_PER_DEGREE
    lon = lon_lat[..., 0] + east / (METRES_PER_DEGREE * np.cos(np.deg2rad(lon_lat[..., 1])))
    return np.stack([lon, lat], axis=-1)


def count_blocks(
    lon_lat: Float64, labels: NDArray[np.uint8], size_m: float
) -> dict[BlockKey, NDArray[np.int64]]:
    """Known and settled pixels of every block, from positions ``(N, 2)`` and labels ``(N,)``."""
    known = labels <= 1
    keys = find_blocks(to_ground_metres(lon_lat[known], size_m), size_m)
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    counts = np.zeros((len(unique), 2), np.int64)
    np.add.at(counts, inverse.reshape(-1), np.stack([np.ones(known.sum(), np.int64), labels[known]], axis=1))
    return {(int(row), int(col)): count for (row, col), count in zip(unique, counts, strict=True)}


def add_counts(parts: Sequence[Mapping[BlockKey, NDArray[np.int64]]]) -> dict[BlockKey, NDArray[np.int64]]:
    """Counts of several scenes, block by block."""
    total: dict[BlockKey, NDArray[np.int64]] = {}
    for part in parts:
        for key, count in part.items():
            total[key] = total.get(key, np.zeros(2, np.int64)) + count
    return total


def choose_blocks(counts: Mapping[BlockKey, NDArray[np.int64]], options: BlockOptions) -> BlockSplit:
    """Take blocks for validation, in an order that only their place and the seed decide.

    Parameters
    ----------
    counts
        Known and settled pixels ``(2,)`` of every block that has labels.

    Raises
    ------
    InputError
        If there are fewer than two blocks, or settlement in fewer than two,
        so that one side would have nothing to learn or to judge.
    """
    settled = sum(int(count[1]) > 0 for count in counts.values())
    if len(counts) < 2 or settled == 1:
        raise InputError(
            f"labels cover {len(counts)} block(s) of {options.size_m:g} m, {settled} with settlement; "
            "expected two or more of each: choose smaller blocks with --block, "
            "or give validation scenes with --val"
        )
    column = 1 if settled else 0
    total = sum(int(count[column]) for count in counts.values())
    taken: set[BlockKey] = set()
    have = 0
    # Blocks with settlement come first: a validation side without any could not be scored.
    for key in sorted(counts, key=lambda key: _order(key, options.seed)):
        part = int(counts[key][column])
        if part and (not taken or have + part <= options.share * total):
            if have + part == total:
                continue
            taken.add(key)
            have += part
    return BlockSplit(options, frozenset(_with_empty(taken, counts, column, options)))


def _with_empty(
    taken: set[BlockKey],
    counts: Mapping[BlockKey, NDArray[np.int64]],
    column: int,
    options: BlockOptions,
) -> set[BlockKey]:
    """The same share of blocks without settlement, so that false alarms are judged too."""
    empty = sorted(
        (key for key in counts if not counts[key][column]), key=lambda key: _order(key, options.seed)
    )
    return taken | set(empty[: round(options.share * len(empty))])


def _order(key: BlockKey, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {key[0]} {key[1]}".encode()).digest()
