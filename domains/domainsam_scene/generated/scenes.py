"""Generated street scenes seen by four sensors, with their truth.

They serve the demo, the tests and the recipe of the weights inside the
package. Each sensor alone tells two classes apart, so that a model which
drops a sensor loses a class and no other:

========================  ====================================================
sensor                    what only it can tell
========================  ====================================================
rgb                       a marking from the ground that it is painted on
depth                     a barrier painted like the ground behind it
event                     a moving vehicle from a parked one
lidar                     a reflecting sign from a plain board
========================  ====================================================

Darkness, fog and rain spoil the sensors as they do outdoors, and any sensor
may fail. The scenes are drawings: what a model does on them says that the
machinery works, and little about how well it does on a street.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from domainsam_scene.generated.sensors import Surfaces, sense

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

CLASSES = (
    "background",
    "ground",
    "marking",
    "vegetation",
    "barrier",
    "parked vehicle",
    "moving vehicle",
    "board",
    "sign",
    "person",
)
BACKGROUND, GROUND, MARKING, VEGETATION, BARRIER, PARKED, MOVING, BOARD, SIGN, PERSON = range(10)
COLOURS = (
    (112, 128, 144),
    (128, 64, 128),
    (250, 170, 30),
    (80, 142, 35),
    (190, 60, 60),
    (40, 60, 150),
    (60, 160, 255),
    (170, 160, 120),
    (240, 230, 60),
    (220, 20, 90),
)
"""A colour for every class, RGB, told apart also by people who confuse red and green."""
SENSORS = ("rgb", "depth", "event", "lidar")
CONDITIONS = ("day", "night", "fog", "rain")
FAILURES = (
    "none",
    "underexposed",
    "overexposed",
    "motion blur",
    "lidar jitter",
    "event low resolution",
    "drop",
)
"""As DELIVER names its cases; ``drop`` blanks one sensor at random."""

CAMERA_HEIGHT_M = 1.6


@dataclass(frozen=True)
class GeneratedScene:
    """One drawn scene.

    ``images`` holds ``(3, H, W)`` float32 in 0 to 1 for each of :data:`SENSORS`:
    depth (metres / 80, repeated), event (more light, less light, 0), lidar
    (range / 80, intensity, height above ground / 8). ``valid`` holds ``(H, W)``
    bool, false throughout for a sensor that was dropped. ``labels`` is
    ``(H, W)`` uint8, indices of :data:`CLASSES`.
    """

    images: dict[str, Float32]
    valid: dict[str, Bool]
    labels: NDArray[np.uint8]
    condition: str
    failure: str


def make_scene(
    seed: int,
    size: int | tuple[int, int] = 256,
    condition: str | None = None,
    failure: str | None = None,
) -> GeneratedScene:
    """Draw a scene; the same arguments give the same one.

    Parameters
    ----------
    seed
        Seed of everything random.
    size
        Side, or height and width, in pixels; at least 32.
    condition, failure
        One of :data:`CONDITIONS` and of :data:`FAILURES`; at random if None
        (half of the scenes by day, half without a failure).

    Raises
    ------
    ValueError
        If the scene is too small, or a condition or failure is unknown.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 32:
        raise ValueError(f"a scene of {height} x {width} pixels is too small: both sides must be at least 32")
    for name, given, known in (("condition", condition, CONDITIONS), ("failure", failure, FAILURES)):
        if given is not None and given not in known:
            raise ValueError(f"{name} {given!r} is unknown; there are: {', '.join(known)}")
    rng = np.random.default_rng((seed, 0x5CE7E))
    stage = _Stage(height, width, rng)
    _draw_world(stage)
    chosen = _pick(rng, CONDITIONS, condition)
    broken = _pick(rng, FAILURES, failure)
    images, valid = sense(stage.surfaces(), chosen, broken, rng)
    return GeneratedScene(images, valid, stage.labels, chosen, broken)


def _pick(rng: np.random.Generator, names: tuple[str, ...], given: str | None) -> str:
    """The given one; otherwise the first of them half of the time, else any other."""
    drawn = names[0] if rng.random() < 0.5 else names[int(rng.integers(1, len(names)))]
    return given or drawn


class _Stage:
    """The surfaces that a camera sees, painted from far to near.

    Pinhole camera, level, :data:`CAMERA_HEIGHT_M` above flat ground; pixel
    positions are ``row`` down and ``col`` to the right, lengths are metres.
    """

    def __init__(self, height: int, width: int, rng: np.random.Generator) -> None:
        self.rng, self.shape = rng, (height, width)
        self.horizon = height * rng.uniform(0.34, 0.5)
        self.focal = width * rng.uniform(0.8, 1.1)
        self.row, self.col = np.mgrid[:height, :width].astype(np.float32)
        below = np.maximum(self.row + 0.5 - self.horizon, 1e-3)
        ground = self.row + 0.5 > self.horizon
        self.depth = np.where(ground, self.focal * CAMERA_HEIGHT_M / below, np.inf).astype(np.float32)
        self.labels = np.where(ground, GROUND, BACKGROUND).astype(np.uint8)
        self.rgb = np.zeros((height, width, 3), np.float32)
        self.intensity = np.zeros(self.shape, np.float32)
        self.motion = np.zeros((height, width, 2), np.float32)

    def texture(self, scale: float) -> Float32:
        """Smooth noise of unit variance whose features are about ``scale`` pixels wide."""
        small = self.rng.standard_normal(tuple(int(side / scale) + 4 for side in self.shape))
        grid = np.stack([self.row / scale + 1, self.col / scale + 1])
        field = ndimage.map_coordinates(small, grid, order=1)
        return np.asarray(field / max(float(field.std()), 1e-6), np.float32)

    def paint(self, where: Bool, colour: Float32, grain: float) -> None:
        """Colour a region, with texture so that nothing is flat."""
        shade = 1 + grain * (0.6 * self.texture(6) + 0.4 * self.texture(1.5))
        self.rgb[where] = np.clip(colour * shade[..., None], 0, 1)[where]

    def place(self, where: Bool, distance: float, label: int, intensity: float) -> None:
        """Give a region, as far as it is nearer than what is there, a distance, a class and a reflectance."""
        self.depth[where] = distance
        self.labels[where] = label
        self.intensity[where] = intensity * self.rng.uniform(0.85, 1.15)
        self.motion[where] = 0

    def box(self, side: float, distance: float, size: tuple[float, float], base: float = 0.0) -> Bool:
        """Pixels of an upright rectangle of ``size`` (height, width), ``base`` above ground, in metres."""
        bottom = self.horizon + self.focal * (CAMERA_HEIGHT_M - base) / distance
        top = bottom - self.focal * size[0] / distance
        left = self.shape[1] / 2 + self.focal * (side - size[1] / 2) / distance
        right = left + self.focal * size[1] / distance
        inside = (self.row + 0.5 > top) & (self.row + 0.5 < bottom)
        return np.asarray(inside & (self.col + 0.5 > left) & (self.col + 0.5 < right))

    def surfaces(self) -> Surfaces:
        """What the sensors look at."""
        height_m = CAMERA_HEIGHT_M - (self.row + 0.5 - self.horizon) * self.depth / self.focal
        height_m = np.where(np.isfinite(self.depth), height_m, 0.0).astype(np.float32)
        absorbs = self.labels == BARRIER
        return Surfaces(self.rgb, self.depth, self.intensity, height_m, self.motion, absorbs)


def _draw_world(stage: _Stage) -> None:
    rng = stage.rng
    sky = np.array([0.62, 0.7, 0.8], np.float32) * rng.uniform(0.75, 1.15)
    stage.paint(stage.labels == BACKGROUND, sky, 0.02)
    tarmac = rng.uniform(0.22, 0.5) * (1 + rng.uniform(-0.08, 0.08, 3))
    stage.paint(stage.labels == GROUND, tarmac.astype(np.float32), 0.1)
    stage.intensity[stage.labels == GROUND] = 0.25
    _draw_grass(stage)
    _draw_markings(stage)
    _draw_houses(stage)
    draw: tuple[Callable[[_Stage, float], None], ...] = (
        _draw_tree,
        _draw_vehicle,
        _draw_vehicle,
        _draw_panel,
        _draw_panel,
        _draw_barrier,
        _draw_person,
    )
    for distance in sorted(rng.uniform(5, 38, int(rng.integers(7, 15))), reverse=True):
        draw[int(rng.integers(len(draw)))](stage, float(distance))


def _draw_grass(stage: _Stage) -> None:
    """Lawns beside the road: as flat as the road, but green."""
    side = stage.col + 0.5 - stage.shape[1] / 2
    across = side * stage.depth / stage.focal
    edge = stage.rng.uniform(4, 9, 2)
    lawn = (stage.labels == GROUND) & ((across < -edge[0]) | (across > edge[1]))
    if stage.rng.random() < 0.7:
        stage.paint(lawn, _hue(stage, (0.26, 0.4, 0.16)), 0.25)
        stage.labels[lawn] = VEGETATION


def _draw_markings(stage: _Stage) -> None:
    """Stripes along the road and a crossing: paint has no height and does not move."""
    rng = stage.rng
    ground = stage.labels == GROUND
    depth = np.where(np.isfinite(stage.depth), stage.depth, 1e4)
    across = (stage.col + 0.5 - stage.shape[1] / 2) * depth / stage.focal
    paint = np.zeros(stage.shape, bool)
    for line in (-rng.uniform(1.2, 3.5), rng.uniform(-0.5, 0.8), rng.uniform(1.2, 3.5)):
        dash = (depth % 5 < 2.8) if rng.random() < 0.6 else np.ones(stage.shape, bool)
        paint |= (np.abs(across - line) < rng.uniform(0.12, 0.25)) & dash & (depth < 35)
    if rng.random() < 0.6:
        near = rng.uniform(5, 12)
        paint |= (np.abs(depth - near - 1) < 1) & (across % 1.2 < 0.6) & (np.abs(across) < 5)
    paint &= ground
    stage.paint(paint, _hue(stage, (0.85, 0.84, 0.8)), 0.06)
    stage.labels[paint] = MARKING


def _draw_houses(stage: _Stage) -> None:
    for _ in range(int(stage.rng.integers(2, 7))):
        distance = stage.rng.uniform(40, 75)
        size = (stage.rng.uniform(6, 22), stage.rng.uniform(10, 26))
        where = stage.box(stage.rng.uniform(-45, 45), distance, size)
        stage.paint(where, _hue(stage, (0.5, 0.46, 0.42)), 0.12)
        panes = where & (stage.row % 9 < 4) & (stage.col % 8 < 4)
        stage.paint(panes, _hue(stage, (0.25, 0.28, 0.32)), 0.05)
        stage.place(where, distance, BACKGROUND, 0.35)


def _draw_tree(stage: _Stage, distance: float) -> None:
    side = _aside(stage, 5, 14)
    size = (stage.rng.uniform(2.5, 6), stage.rng.uniform(2, 4))
    crown = stage.box(side, distance, size, base=stage.rng.uniform(0, 1.8))
    trunk = stage.box(side, distance, (3.0, 0.3)) & ~crown
    crown &= stage.texture(max(2.0, 0.5 * stage.focal / distance)) > -1.1
    stage.paint(trunk, _hue(stage, (0.3, 0.24, 0.18)), 0.1)
    stage.paint(crown, _hue(stage, (0.2, 0.33, 0.13)), 0.35)
    stage.place(trunk | crown, distance, VEGETATION, 0.3)


def _draw_vehicle(stage: _Stage, distance: float) -> None:
    """A car; whether it moves, only the change of light tells."""
    side, width = stage.rng.uniform(-6, 6), stage.rng.uniform(1.7, 4.4)
    body = stage.box(side, distance, (0.9, width), base=0.25)
    cabin = stage.box(side, distance, (0.55, width * 0.65), base=1.15)
    wheels = stage.box(side - width * 0.32, distance, (0.5, 0.5)) | stage.box(
        side + width * 0.32, distance, (0.5, 0.5)
    )
    stage.paint(body | cabin, stage.rng.uniform(0.08, 0.85, 3).astype(np.float32), 0.08)
    glass = stage.box(side, distance, (0.4, width * 0.55), base=1.18)
    stage.paint(glass, _hue(stage, (0.12, 0.15, 0.18)), 0.1)
    stage.paint(wheels, _hue(stage, (0.06, 0.06, 0.06)), 0.1)
    where = body | cabin | wheels
    moves = stage.rng.random() < 0.5
    stage.place(where, distance, MOVING if moves else PARKED, 0.45)
    if moves:
        speed = stage.rng.uniform(0.2, 0.5) * stage.rng.choice([-1, 1]) * stage.focal / distance
        stage.motion[where] = (0.0, speed)


def _draw_panel(stage: _Stage, distance: float) -> None:
    """A sheet on a post, of one look whether it reflects or not."""
    side, edge = _aside(stage, 1.5, 9), stage.rng.uniform(0.7, 1.6)
    sheet = stage.box(side, distance, (edge, edge * stage.rng.uniform(0.8, 1.6)), base=1.6)
    post = stage.box(side, distance, (1.7, 0.12)) & ~sheet
    stage.paint(post, _hue(stage, (0.4, 0.4, 0.42)), 0.05)
    stage.place(post, distance, BACKGROUND, 0.3)
    tints = ((0.75, 0.2, 0.16), (0.15, 0.3, 0.65), (0.8, 0.78, 0.3), (0.7, 0.7, 0.68))
    stage.paint(sheet, _hue(stage, tints[int(stage.rng.integers(len(tints)))]), 0.06)
    reflects = stage.rng.random() < 0.5
    stage.place(sheet, distance, SIGN if reflects else BOARD, 0.95 if reflects else 0.3)


def _draw_barrier(stage: _Stage, distance: float) -> None:
    """A low wall with the look of whatever stands behind it; it swallows the laser's light."""
    size = (stage.rng.uniform(0.7, 1.3), stage.rng.uniform(1.5, 5))
    where = stage.box(stage.rng.uniform(-5, 5), distance, size)
    stage.place(where, distance, BARRIER, 0.0)


def _draw_person(stage: _Stage, distance: float) -> None:
    side, tall = stage.rng.uniform(-7, 7), stage.rng.uniform(1.5, 1.9)
    legs = stage.box(side, distance, (tall * 0.5, 0.35))
    trunk = stage.box(side, distance, (tall * 0.36, 0.55), base=tall * 0.48)
    head = stage.box(side, distance, (tall * 0.15, 0.25), base=tall * 0.84)
    stage.paint(legs, stage.rng.uniform(0.05, 0.5, 3).astype(np.float32), 0.1)
    stage.paint(trunk, stage.rng.uniform(0.05, 0.8, 3).astype(np.float32), 0.1)
    stage.paint(head, _hue(stage, (0.6, 0.45, 0.36)), 0.08)
    where = legs | trunk | head
    stage.place(where, distance, PERSON, 0.35)
    stage.motion[where] = (0.0, stage.rng.uniform(-0.08, 0.08) * stage.focal / distance)


def _aside(stage: _Stage, near: float, far: float) -> float:
    """A place to the left or right of the road, in metres."""
    return float(stage.rng.choice([-1, 1]) * stage.rng.uniform(near, far))


def _hue(stage: _Stage, colour: tuple[float, float, float]) -> Float32:
    """A colour, a little different every time."""
    return np.asarray(np.clip(np.array(colour) * stage.rng.normal(1, 0.07, 3), 0, 1), np.float32)
