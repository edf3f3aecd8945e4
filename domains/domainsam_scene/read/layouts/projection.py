"""Raw sensors of MUSES in the camera's view, and the scale on which networks see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import DependencyError, InputError
from domainsam.io.arrays import read_h5
from domainsam.limits import require_memory
from domainsam.reading import reads
from domainsam_scene.read.images import read_image
from domainsam_scene.read.modalities import Plane

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Size = tuple[int, int]

CAMERA_SIZE = (1080, 1920)
"""Rows and columns for which the camera's matrix is given."""
NEAREST_M = 1.0
RADAR_FARTHEST_M = 150.0
LIDAR_FIELDS = 6
"""x, y, z, intensity, ring, time: 64-bit floats."""
RADAR_BIN_M, RADAR_HEIGHT_M, RADAR_AZIMUTHS = 0.0438, -1.62, 400
RADAR_HEAD = 11
"""Rows before the echoes: time, azimuth, and in the last whether the column is valid."""
EVENT_SPAN = 30_000
"""Events of the last 30 ms count; times are microseconds."""
SCALES: dict[str, tuple[tuple[float, float], ...]] = {
    "lidar": ((0.0, 150.0), (0.0, 255.0), (-10.0, 20.0)),
    "radar": ((0.0, 150.0), (0.0, 255.0), (-10.0, 20.0)),
    "event": ((0.0, 8.0), (0.0, 8.0), (0.0, 1.0)),
}
"""By sensor and channel, what 0 and 1 stand for: metres, intensity, metres above the sensor; events."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Camera matrices ``(3, 3)`` and rigid movements ``(4, 4)`` into the camera's frame."""

    camera: Float64
    event_camera: Float64
    lidar: Float64
    radar: Float64
    event: Float64

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Calibration:
        """From the content of ``calib.json``.

        Raises
        ------
        KeyError, ValueError
            If something is missing or of another shape.
        """
        inner, outer = document["intrinsics"], document["extrinsics"]
        square = {name: np.asarray(inner[name]["K"], np.float64).reshape(3, 3) for name in ("rgb", "event")}
        moves = {
            name: np.asarray(outer[f"{name}2rgb"], np.float64).reshape(4, 4)
            for name in ("lidar", "radar", "event")
        }
        if not all(np.isfinite(matrix).all() for matrix in (*square.values(), *moves.values())):
            raise ValueError("a number of its matrices is not finite")
        return cls(square["rgb"], square["event"], moves["lidar"], moves["radar"], moves["event"])

    def scaled_camera(self, size: Size) -> Float64:
        """The camera's matrix for pictures of another size."""
        return np.asarray(np.diag([size[1] / CAMERA_SIZE[1], size[0] / CAMERA_SIZE[0], 1.0]) @ self.camera)


def fill_plane(sensor: str, image: NDArray[Any]) -> Plane:
    """A projection ``(3, H, W)`` on the scale of networks; pixels that nothing hit stay 0."""
    low, high = (np.array(ends, np.float32)[:, None, None] for ends in zip(*SCALES[sensor], strict=True))
    hit = (image != 0).any(axis=0)
    scaled = np.clip((image.astype(np.float32) - low) / (high - low), 0, 1) * hit
    return Plane(np.asarray(scaled, np.float32), np.ones(hit.shape, bool))


POINT_COPIES = 8
"""Copies of a cloud's points in memory while they are turned and painted."""


@reads("a cloud of points")
def project_lidar(path: Path, calibration: Calibration, size: Size) -> Float32:
    """Range, intensity and height ``(3, H, W)`` of a point cloud as the camera would see it.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    require_memory(path, POINT_COPIES * path.stat().st_size, "points of that size")
    content = path.read_bytes()
    if not content or len(content) % (8 * LIDAR_FIELDS):
        raise InputError(
            f"{path}: holds {len(content)} bytes, not a whole number of points of {8 * LIDAR_FIELDS}; "
            "it is damaged or truncated: copy or download it again"
        )
    points = np.frombuffer(content, np.float64).reshape(-1, LIDAR_FIELDS)
    if not np.isfinite(points[:, :4]).all():
        raise InputError(f"{path}: holds points that are no finite numbers: damaged; copy it again")
    return _painted(points[:, :3], points[:, 3], calibration.lidar, calibration.scaled_camera(size), size)


@reads("a radar's picture")
def project_radar(path: Path, calibration: Calibration, size: Size) -> Float32:
    """Range and intensity of a radar's polar picture as the camera would see it, the strongest echo on top.

    Height is not measured: echoes are drawn where they would be on the ground.

    Raises
    ------
    InputError
        If the file is damaged or no polar picture.
    """
    polar = read_image(path).values[0]
    if polar.shape[1] != RADAR_AZIMUTHS or polar.shape[0] <= RADAR_HEAD:
        raise InputError(f"{path}: is {polar.shape}, expected a polar picture with {RADAR_AZIMUTHS} columns")
    echoes = polar[RADAR_HEAD:]
    azimuth = -np.radians(np.linspace(-180 + 360 / RADAR_AZIMUTHS, 180, RADAR_AZIMUTHS))
    distance = RADAR_BIN_M * (np.arange(len(echoes)) + 1)
    heard = (echoes > 0) & (polar[RADAR_HEAD - 1] > 0)[None] & (distance <= RADAR_FARTHEST_M)[:, None]
    row, col = np.nonzero(heard)
    ahead = np.abs(azimuth[col]) < np.pi / 2
    row, col = row[ahead], col[ahead]
    points = np.stack(
        [
            distance[row] * np.cos(azimuth[col]),
            distance[row] * np.sin(azimuth[col]),
            np.full(len(row), RADAR_HEIGHT_M),
        ],
        axis=1,
    )
    camera, strength = calibration.scaled_camera(size), echoes[row, col].astype(np.float64)
    image = _painted(points, strength, calibration.radar, camera, size, rank=strength)
    image[2] = 0
    return image


@reads("events")
def project_events(path: Path, calibration: Calibration, size: Size) -> Float32:
    """Counts of brighter and darker events ``(3, H, W)``, the third channel 0.

    The cameras are so close that only the turn between them matters: the
    picture moves by ``K_rgb R K_event^-1``, which is what rectifying both and
    undoing the camera's own rectification comes to.

    Raises
    ------
    InputError
        If the file is damaged.
    DependencyError
        If h5py is not installed.
    """
    x, y, brighter = _read_events(path)
    turn = (
        calibration.scaled_camera(size) @ calibration.event[:3, :3] @ np.linalg.inv(calibration.event_camera)
    )
    homogeneous = turn @ np.stack([x, y, np.ones_like(x)])
    col, row = np.rint(homogeneous[:2] / homogeneous[2]).astype(np.int64)
    inside = (row >= 0) & (row < size[0]) & (col >= 0) & (col < size[1])
    image = np.zeros((3, *size), np.float32)
    for channel, chosen in enumerate((inside & brighter, inside & ~brighter)):
        np.add.at(image[channel], (row[chosen], col[chosen]), 1)
    return image


def dilate_events(image: NDArray[Any], side: int) -> NDArray[Any]:
    """Counts ``(3, H, W)`` with every event drawn as a square of ``side`` pixels, the greatest count on top.

    A square begins at its event and reaches right and down, as OpenCV's
    ``dilate`` has it for the 2 x 2 kernel that MUSES' own networks are fed with.
    """
    drawn = image.copy()
    for down in range(side):
        for right in range(side):
            moved = np.zeros_like(image)
            moved[:, down:, right:] = image[:, : image.shape[1] - down, : image.shape[2] - right]
            drawn = np.maximum(drawn, moved)
    return drawn


def _read_events(path: Path) -> tuple[Float64, Float64, NDArray[np.bool_]]:
    try:
        found = read_h5(path, [f"events/{name}" for name in ("x", "y", "t", "p")])
    except ImportError as error:
        raise DependencyError(
            "raw event files need h5py: run pip install 'domainsam[hdf5]', or use MUSES's own kit"
        ) from error
    x, y, time, polarity = found.values()
    if len({part.shape for part in found.values()}) > 1 or x.ndim != 1:
        raise InputError(f"{path}: its data sets are of different lengths; copy or download it again")
    if not len(time):
        return x.astype(np.float64), y.astype(np.float64), polarity.astype(bool)
    recent = time.astype(np.int64) >= int(time.max()) - EVENT_SPAN
    return x[recent].astype(np.float64), y[recent].astype(np.float64), polarity[recent].astype(np.int64) == 1


def _painted(
    points: Float64,
    intensity: NDArray[Any],
    move: Float64,
    camera: Float64,
    size: Size,
    rank: Float64 | None = None,
) -> Float32:
    """Points ``(N, 3)`` in metres as pixels, that of highest ``rank`` on top, by default the nearest."""
    distance = np.linalg.norm(points, axis=1)
    seen = camera @ (move[:3, :3] @ points.T + move[:3, 3:])
    with np.errstate(divide="ignore", invalid="ignore"):
        col, row = seen[:2] / seen[2]
    inside = (distance >= NEAREST_M) & (seen[2] > 0)
    inside &= (col > 0) & (col < size[1] - 1) & (row > 0) & (row < size[0] - 1)
    order = np.argsort((-distance if rank is None else rank)[inside], kind="stable")
    rows, cols = row[inside].astype(np.int64)[order], col[inside].astype(np.int64)[order]
    image = np.zeros((3, *size), np.float32)
    for channel, values in enumerate((distance, intensity, points[:, 2])):
        image[channel, rows, cols] = values[inside][order]
    return image
