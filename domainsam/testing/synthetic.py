"""Generate settlement scenes with their truth, for demo, tests and benchmarks.

A scene looks roughly like northern Chinese suburbs in winter from above at
0.9 m a pixel: dense settlements of small roofs with hardly an alley between
them, apartment slabs in rows, sheds of blue sheet metal, bare trees, soil, a
river and a motorway. It is a drawing, not a photograph: what a model does on
it says that the machinery works, and little about how well the model is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
Rgb = tuple[int, int, int]

GROUND_PIXEL_M = 0.9
"""Metres on the ground that the sizes below, in pixels, are drawn for."""

SOIL: Rgb = (139, 130, 118)
TREES: Rgb = (82, 79, 64)
WATER: Rgb = (28, 50, 48)
ASPHALT: Rgb = (106, 109, 113)
PAVED: Rgb = (122, 119, 114)
SHADOW: Rgb = (44, 45, 50)
VILLAGE_ROOFS: tuple[Rgb, ...] = (
    (128, 131, 131),
    (112, 114, 114),
    (143, 145, 143),
    (96, 99, 101),
    (156, 157, 154),
    (134, 118, 110),
    (138, 156, 180),
    (70, 96, 176),
)
VILLAGE_SHARES = (0.26, 0.2, 0.18, 0.12, 0.08, 0.06, 0.07, 0.03)
"""Mostly grey concrete and tile, some rust, some sheet metal in pale and strong blue."""
SLAB_ROOFS: tuple[Rgb, ...] = ((150, 148, 144), (126, 118, 112), (112, 112, 114))
SHED_ROOFS: tuple[Rgb, ...] = ((66, 98, 190), (139, 168, 200), (128, 145, 150), (190, 196, 200))


@dataclass(frozen=True)
class SettlementScene:
    """A generated scene: ``image`` ``(H, W, 3)`` uint8 RGB, ``truth`` ``(H, W)`` uint8, 1 is settlement."""

    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]


def make_settlement_scene(height: int = 1024, width: int = 1024, seed: int = 0) -> SettlementScene:
    """A scene of settlements, formal blocks, vegetation and water; the same for the same arguments.

    Parameters
    ----------
    height, width
        Size in pixels, each at least 64. About one settlement a quarter of a square kilometre.
    seed
        Seed of everything random.

    Raises
    ------
    ValueError
        If the scene is smaller than 64 pixels.
    """
    if min(height, width) < 64:
        raise ValueError(f"a scene of {height} x {width} pixels is too small: both sides must be at least 64")
    rng = np.random.default_rng(seed)
    canvas = _Canvas(height, width, rng)
    _draw_city(canvas)
    truth = _draw_settlements(canvas)
    for band in (_draw_river(canvas), _draw_motorway(canvas)):
        truth &= ~band
    return SettlementScene(canvas.finish(), truth.astype(np.uint8))


class _Canvas:
    """The picture in the making: ``rgb`` is ``(H, W, 3)`` float32 in 0 to 255."""

    def __init__(self, height: int, width: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.shape = (height, width)
        self.y, self.x = np.mgrid[:height, :width].astype(np.float32)
        self.rgb = np.empty((height, width, 3), np.float32)
        self.rgb[:] = SOIL
        self.rgb *= 1 + 0.10 * self.texture(24)[..., None] + 0.05 * self.texture(3)[..., None]

    def texture(self, scale: float) -> Float32:
        """Smooth noise of unit variance whose features are about ``scale`` pixels wide."""
        small = tuple(max(4, int(size / scale) + 4) for size in self.shape)
        noise = self.rng.standard_normal(small).astype(np.float32)
        rows = np.linspace(1, small[0] - 3, self.shape[0], dtype=np.float32)
        cols = np.linspace(1, small[1] - 3, self.shape[1], dtype=np.float32)
        grid = np.meshgrid(rows, cols, indexing="ij")
        field = ndimage.map_coordinates(noise, np.stack(grid), order=1)
        return np.asarray(field / max(float(field.std()), 1e-6), np.float32)

    def turned(self, degrees: float) -> tuple[Float32, Float32]:
        """Coordinates along and across a direction, in pixels."""
        angle = np.deg2rad(degrees)
        return (
            self.x * np.cos(angle) + self.y * np.sin(angle),
            self.y * np.cos(angle) - self.x * np.sin(angle),
        )

    def paint(self, where: Bool, colour: Rgb | Float32, grain: float = 0.06) -> None:
        """Colour a region, with a little texture so that nothing is flat."""
        shade = 1 + grain * self.rng.standard_normal(self.shape).astype(np.float32)
        paint = np.broadcast_to(np.asarray(colour, np.float32), self.rgb.shape)
        self.rgb[where] = (paint * shade[..., None])[where]

    def blend(self, where: Bool, colour: Rgb, share: Float32) -> None:
        """Mix a colour in, by a ``share`` per pixel that is cut to 0 to 1."""
        mix = np.clip(share, 0, 1)[..., None] * where[..., None]
        self.rgb += mix * (np.asarray(colour, np.float32) - self.rgb)

    def finish(self) -> NDArray[np.uint8]:
        """The picture through a lens: a little blur, a little noise."""
        soft = ndimage.gaussian_filter(self.rgb, (0.6, 0.6, 0))
        soft += self.rng.standard_normal(soft.shape).astype(np.float32) * 3
        return np.asarray(np.clip(np.rint(soft), 0, 255), np.uint8)


@dataclass(frozen=True)
class _Cells:
    """A brick pattern: for every pixel its brick and the distances to the brick's edges, in pixels."""

    index: NDArray[np.int64]
    left: Float32
    right: Float32
    top: Float32
    bottom: Float32
    count: int


def _bricks(
    canvas: _Canvas, degrees: float, pitch: float, widths: tuple[float, float], wobble: float
) -> _Cells:
    """Rows of bricks of one height and random widths, bent by ``wobble`` pixels."""
    along, across = canvas.turned(degrees)
    along = along + wobble * canvas.texture(40)
    across = across + wobble * canvas.texture(60)
    across -= across.min()
    along -= along.min()
    row = (across / pitch).astype(np.int64)
    most = int(along.max() / widths[0]) + 2
    edges = np.cumsum(canvas.rng.uniform(*widths, (int(row.max()) + 1, most)), axis=1)
    edges -= canvas.rng.uniform(0, widths[1], (len(edges), 1)) + widths[1]
    # One sorted axis for all rows: each row's edges are moved beyond those of the row before.
    stride = float(edges.max()) + 2 * widths[1]
    axis = (edges + stride * np.arange(len(edges))[:, None]).ravel()
    place = np.searchsorted(axis, along + stride * row, side="right")
    start, end = axis[place - 1] - stride * row, axis[np.minimum(place, axis.size - 1)] - stride * row
    top = across - row * pitch
    return _Cells(
        index=place,
        left=np.asarray(along - start, np.float32),
        right=np.asarray(end - along, np.float32),
        top=np.asarray(top, np.float32),
        bottom=np.asarray(pitch - top, np.float32),
        count=axis.size + 1,
    )


def _roofs(
    canvas: _Canvas,
    cells: _Cells,
    where: Bool,
    palette: tuple[Rgb, ...],
    gap: tuple[float, float],
    shares: tuple[float, ...] | None = None,
    shadow: float = 2.0,
) -> None:
    """Paint a roof on every brick: shade between roofs, two slopes, a shadow to the north."""
    rng = canvas.rng
    spacing = rng.uniform(*gap, (4, cells.count)).astype(np.float32)[:, cells.index]
    inside = (
        (cells.left > spacing[0])
        & (cells.right > spacing[1])
        & (cells.top > spacing[2] + shadow * 0.5)
        & (cells.bottom > spacing[3])
    )
    shaded = ~inside & (cells.left > spacing[0] - 0.5) & (cells.top > spacing[2] - shadow)
    shaded &= cells.top < spacing[2] + shadow
    choice = rng.choice(len(palette), cells.count, p=shares)
    tone = np.asarray(palette, np.float32)[choice] * rng.normal(1, 0.09, (cells.count, 1)).astype(np.float32)
    slope = np.where(cells.top > cells.bottom, 1.06, 0.93).astype(np.float32)
    canvas.paint(where & shaded, SHADOW)
    canvas.paint(where & inside, tone[cells.index] * slope[..., None], grain=0.05)


def _draw_city(canvas: _Canvas) -> None:
    """Formal blocks between straight roads: slabs, sheds, parks, bare ground."""
    degrees = float(canvas.rng.uniform(-12, 12))
    blocks = _bricks(canvas, degrees, pitch=230, widths=(190, 330), wobble=3)
    use = canvas.rng.choice(4, blocks.count, p=(0.36, 0.22, 0.3, 0.12))[blocks.index]
    edge = np.minimum.reduce([blocks.left, blocks.right, blocks.top, blocks.bottom])
    built = edge > 14
    canvas.paint(built & (use == 0), PAVED)
    trees = canvas.texture(40) + 0.5 * canvas.texture(7) + 0.5 * canvas.texture(2.5)
    canvas.blend((use == 2) & (edge > 8), TREES, 0.45 + 0.35 * trees)
    canvas.paint(built & (use == 0) & (trees > 1.1), TREES, grain=0.12)
    slabs = _bricks(canvas, degrees, pitch=46, widths=(58, 96), wobble=0)
    _roofs(canvas, slabs, built & (use == 0), SLAB_ROOFS, gap=(6, 14), shadow=12)
    sheds = _bricks(canvas, degrees, pitch=38, widths=(60, 130), wobble=0)
    _roofs(canvas, sheds, built & (use == 1), SHED_ROOFS, gap=(1, 4), shadow=3)
    canvas.paint(edge < 6, ASPHALT)


def _draw_settlements(canvas: _Canvas) -> Bool:
    """Dense settlements with bent rows of small roofs; returns where they are."""
    height, width = canvas.shape
    truth = np.zeros(canvas.shape, bool)
    count = max(1, round(height * width * GROUND_PIXEL_M**2 / 250_000))
    reach = min(0.27 * min(height, width), 260.0)
    for _ in range(count):
        # Kept off the rim where the scene is large enough, so that most outlines are whole.
        centre = (canvas.rng.uniform(0.25, 0.75) * width, canvas.rng.uniform(0.25, 0.75) * height)
        if count > 3:
            centre = (canvas.rng.uniform(0.05, 0.95) * width, canvas.rng.uniform(0.05, 0.95) * height)
        region = _polygon(canvas, centre, reach) & ~truth
        cells = _bricks(canvas, float(canvas.rng.uniform(-20, 20)), pitch=12.5, widths=(7, 18), wobble=2.5)
        canvas.paint(region, SHADOW, grain=0.2)
        yards = canvas.rng.random(cells.count)[cells.index] < 0.12
        canvas.paint(region & yards, PAVED, grain=0.2)
        _roofs(canvas, cells, region & ~yards, VILLAGE_ROOFS, gap=(0.2, 1.6), shares=VILLAGE_SHARES)
        lanes = _bricks(canvas, float(canvas.rng.uniform(-20, 20)), pitch=85, widths=(90, 160), wobble=6)
        alley = np.minimum(lanes.left, lanes.top) < 3.0
        canvas.paint(region & alley, PAVED, grain=0.12)
        truth |= region
    return truth


def _polygon(canvas: _Canvas, centre: tuple[float, float], reach: float) -> Bool:
    """A random star-shaped polygon with straight sides, as a mask."""
    corners = 7
    step = 2 * np.pi / corners
    angles = step * np.arange(corners) + canvas.rng.uniform(-0.3, 0.3, corners) * step
    radii = reach * canvas.rng.uniform(0.65, 1.0, corners)
    dx, dy = canvas.x - centre[0], canvas.y - centre[1]
    mask = np.zeros(canvas.shape, bool)
    for start in range(corners):
        end = (start + 1) % corners
        ax, ay = radii[start] * np.cos(angles[start]), radii[start] * np.sin(angles[start])
        bx, by = radii[end] * np.cos(angles[end]), radii[end] * np.sin(angles[end])
        area = ax * by - ay * bx
        first, second = (dx * by - dy * bx) / area, (ax * dy - ay * dx) / area
        mask |= (first >= 0) & (second >= 0) & (first + second <= 1)
    return mask


def _band(canvas: _Canvas, bend: float) -> Float32:
    """Distance in pixels from a line across the scene that is bent by ``bend`` pixels."""
    height, width = canvas.shape
    degrees = float(canvas.rng.uniform(0, 180))
    _, across = canvas.turned(degrees)
    angle = np.deg2rad(degrees)
    middle = 0.5 * (height * np.cos(angle) - width * np.sin(angle))
    offset = canvas.rng.choice([-1, 1]) * canvas.rng.uniform(0.3, 0.45) * min(height, width)
    return np.asarray(np.abs(across - middle - offset + bend * canvas.texture(max(canvas.shape) / 3)))


def _draw_river(canvas: _Canvas) -> Bool:
    distance = _band(canvas, bend=18)
    bed = distance < 30
    canvas.paint(distance < 38, SOIL)
    canvas.paint(bed, WATER, grain=0.04)
    return np.asarray(distance < 38)


def _draw_motorway(canvas: _Canvas) -> Bool:
    distance = _band(canvas, bend=0)
    canvas.paint(distance < 30, TREES, grain=0.15)
    canvas.paint(distance < 22, ASPHALT)
    canvas.paint((distance < 22) & (np.abs(distance % 5) < 0.8), (190, 190, 186))
    canvas.paint(distance < 1.5, TREES)
    return np.asarray(distance < 30)
