"""Volumes, Hounsfield units and positions of organs, summed slice by slice.

What is not known is None, never 0: an organ that was not found has no volume
(it may lie outside the scan, or have been missed), and without an image there
are no Hounsfield units.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from domainsam.grid import Grid
from domainsam_ct.labels import LabelMap, Organ

HU_RANGE = (-2048, 8192)
"""Hounsfield units that the median tells apart: 12-bit scanners give -1024 to 3071, metal more."""
STEPS = 8
"""Steps of the median in one Hounsfield unit; whole units, as scanners give, are exact."""

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class HounsfieldUnits:
    """Distribution within an organ; ``sd`` is that of the voxels (divided by their number)."""

    mean: float
    sd: float
    minimum: float
    maximum: float
    median: float


@dataclass(frozen=True)
class OrganStatistics:
    """One organ in figures.

    Parameters
    ----------
    name, value
        Which organ, and its number in the mask.
    voxels
        How many the mask holds, 0 where the organ was not found.
    volume_ml
        Their volume, None where the organ was not found.
    hu
        None without an image, or where the organ was not found.
    centroid_mm
        Mean position: right, anterior, superior.
    box_mm
        Lowest and highest position of the organ's voxels, faces included: right, anterior, superior.
    box_voxels
        First and last index along each of the file's own axes.
    touches_border
        Whether the organ reaches the scan's edge, so that part of it may be missing.
    confidence
        Mean probability that the network gave this organ at its voxels, None for other masks.
    """

    name: str
    value: int
    voxels: int
    volume_ml: float | None = None
    hu: HounsfieldUnits | None = None
    centroid_mm: Vector | None = None
    box_mm: tuple[Vector, Vector] | None = None
    box_voxels: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None
    touches_border: bool | None = None
    confidence: float | None = None

    @property
    def found(self) -> bool:
        """Whether the mask holds the organ at all."""
        return self.voxels > 0

    def document(self) -> dict[str, object]:
        """The figures as values that JSON can hold."""
        values = asdict(self)
        values["found"] = self.found
        return values

    def row(self) -> dict[str, object]:
        """The figures as cells of a table; what is unknown is an empty cell."""
        row: dict[str, object] = {"organ": self.name, "value": self.value, "voxels": self.voxels}
        row["volume_ml"] = self.volume_ml
        for key in ("mean", "sd", "minimum", "maximum", "median"):
            row[f"hu_{key}"] = None if self.hu is None else getattr(self.hu, key)
        for number, axis in enumerate("xyz"):
            row[f"centroid_{axis}_mm"] = None if self.centroid_mm is None else self.centroid_mm[number]
        for number, axis in enumerate("xyz"):
            for end, word in enumerate(("min", "max")):
                row[f"{axis}_{word}_mm"] = None if self.box_mm is None else self.box_mm[end][number]
        row["touches_border"] = None if self.touches_border is None else int(self.touches_border)
        row["confidence"] = self.confidence
        return {key: format_cell(cell) for key, cell in row.items()}


def format_cell(value: object) -> object:
    """A value as tables show it: three decimals, nothing where it is not known."""
    if value is None:
        return ""
    return round(value, 3) if isinstance(value, float) else value


class Tally:
    """Sums over slices, from which statistics are made.

    Parameters
    ----------
    grid
        Canonical grid of the volume.
    labels
        Organs to look for; other values are passed over.
    """

    def __init__(self, grid: Grid, labels: LabelMap) -> None:
        self.grid = grid
        self.labels = labels
        self._organs = {value: _Sums(grid.shape) for value in labels}

    def add(
        self,
        start: int,
        mask: NDArray[np.integer],
        hu: NDArray[np.float32] | None = None,
        confidence: NDArray[np.uint8] | None = None,
    ) -> None:
        """Take in slices ``(n, X, Y)`` from number ``start`` on; confidence is 255 * probability, or 0."""
        places = np.flatnonzero(mask)
        found = mask.ravel()[places]
        for value in np.unique(found):
            sums = self._organs.get(int(value))
            if sums is None:
                continue
            here = places[found == value]
            sums.add_places(np.unravel_index(here, mask.shape), start)
            if hu is not None:
                sums.add_hu(hu.ravel()[here])
            if confidence is not None:
                sums.add_confidence(confidence.ravel()[here])

    def along(self, value: int, axis: int) -> NDArray[np.int64]:
        """Voxels of an organ in every plane across a canonical axis, ``(X,)``, ``(Y,)`` or ``(Z,)``."""
        return self._organs[value].along[axis]

    def statistics(
        self, native: Grid | None = None, open_axes: tuple[bool, bool, bool] = (False, False, False)
    ) -> tuple[OrganStatistics, ...]:
        """Figures of every organ.

        Parameters
        ----------
        native
            The grid of the file's own axes, for ``box_voxels``.
        open_axes
            Canonical axes along which the grid may end before the scan does: whether
            an organ that ends there reaches the scan's edge is not known.
        """
        return tuple(
            self._organs[value].statistics(organ, value, self.grid, native, open_axes)
            for value, organ in self.labels.items()
        )


class _Sums:
    """Sums over the voxels of one organ."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.along = [np.zeros(size, np.int64) for size in shape]
        self._hu_sum = self._hu_squares = 0.0
        self._hu_ends = (np.inf, -np.inf)
        self._hu_count = 0
        self._histogram: NDArray[np.int64] | None = None
        self._confidence = self._confident = 0

    def add_places(self, index: tuple[NDArray[np.intp], ...], start: int) -> None:
        slices, x, y = index
        for axis, places in enumerate((x, y, slices + start)):
            self.along[axis] += np.bincount(places, minlength=len(self.along[axis]))

    def add_hu(self, hu: NDArray[np.float32]) -> None:
        exact = hu.astype(np.float64)
        self._hu_count += hu.size
        self._hu_sum += float(exact.sum())
        self._hu_squares += float((exact * exact).sum())
        self._hu_ends = (
            min(self._hu_ends[0], float(exact.min())),
            max(self._hu_ends[1], float(exact.max())),
        )
        low, high = HU_RANGE
        bins = np.clip(np.rint((exact - low) * STEPS), 0, (high - low) * STEPS).astype(np.int64)
        if self._histogram is None:
            self._histogram = np.zeros((high - low) * STEPS + 1, np.int64)
        self._histogram += np.bincount(bins, minlength=len(self._histogram))

    def add_confidence(self, confidence: NDArray[np.uint8]) -> None:
        self._confidence += int(confidence.sum(dtype=np.int64))
        self._confident += int(np.count_nonzero(confidence))

    def statistics(
        self,
        organ: Organ,
        value: int,
        grid: Grid,
        native: Grid | None,
        open_axes: tuple[bool, bool, bool],
    ) -> OrganStatistics:
        voxels = int(self.along[0].sum())
        if voxels == 0:
            return OrganStatistics(organ.name, value, 0)
        ends = [np.flatnonzero(counts)[[0, -1]] for counts in self.along]
        first, last = (np.array([end[side] for end in ends]) for side in (0, 1))
        centre = [float((counts * np.arange(len(counts))).sum() / voxels) for counts in self.along]
        return OrganStatistics(
            organ.name,
            value,
            voxels,
            volume_ml=voxels * measure_voxel_ml(grid),
            hu=self._hounsfield(),
            centroid_mm=_vector(grid.to_world(centre)),
            box_mm=_world_box(grid, first, last),
            box_voxels=None if native is None else _native_box(grid, native, first, last),
            touches_border=_touches((first == 0) | (last == np.array(grid.shape) - 1), np.array(open_axes)),
            confidence=self._confidence / 255 / self._confident if self._confident else None,
        )

    def _hounsfield(self) -> HounsfieldUnits | None:
        if self._histogram is None:
            return None
        mean = self._hu_sum / self._hu_count
        spread = max(0.0, self._hu_squares / self._hu_count - mean * mean) ** 0.5
        # The mean of the two middle voxels, which are one voxel where their number is odd.
        middle = np.searchsorted(
            np.cumsum(self._histogram), [(self._hu_count + 1) // 2, self._hu_count // 2 + 1]
        )
        median = HU_RANGE[0] + float(middle.mean()) / STEPS
        return HounsfieldUnits(mean, spread, *self._hu_ends, median)


def _touches(ends: NDArray[np.bool_], unsure: NDArray[np.bool_]) -> bool | None:
    """Whether an organ reaches the scan's edge; None where it only ends with the mask."""
    if (ends & ~unsure).any():
        return True
    return None if (ends & unsure).any() else False


def measure_voxel_ml(grid: Grid) -> float:
    """Volume of one voxel in millilitres, right for oblique grids too."""
    return float(abs(np.linalg.det(grid.affine[:3, :3]))) / 1000


def _world_box(grid: Grid, first: NDArray[np.intp], last: NDArray[np.intp]) -> tuple[Vector, Vector]:
    corners = _corners(first - 0.5, last + 0.5)
    world = grid.to_world(corners)
    return _vector(world.min(axis=0)), _vector(world.max(axis=0))


def _native_box(
    grid: Grid, native: Grid, first: NDArray[np.intp], last: NDArray[np.intp]
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """First and last index along the file's axes, which are the canonical ones in another order."""
    index = np.rint(native.to_index(grid.to_world(_corners(first, last)))).astype(int)
    low, high = index.min(axis=0), index.max(axis=0)
    return (int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2]))


def _corners(
    first: NDArray[np.floating] | NDArray[np.intp], last: NDArray[np.floating] | NDArray[np.intp]
) -> NDArray[np.float64]:
    """The eight corners of a box, ``(8, 3)``."""
    sides = np.stack([first, last]).astype(np.float64)
    return np.array([[sides[a, 0], sides[b, 1], sides[c, 2]] for a in (0, 1) for b in (0, 1) for c in (0, 1)])


def _vector(values: NDArray[np.float64]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])
