"""The same ground falls on the same pixels, whatever file shows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from scipy import ndimage

from domainsam.infer.blend import LEVELS, NODATA
from domainsam.infer.store import RawRaster
from domainsam.protocols import Window
from domainsam_urban.read import warp
from domainsam_urban.read.area import find_wanted_area
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.settings import ReadOptions
from domainsam_urban.write.scenegrid import lay_on_scene
from tests.urban.read.scene_files import ramp, save, whole

UTM = "EPSG:32650"
CORNER = (443_211.3, 4_412_287.9)
METRES = 1.2
SIZE = (160, 200)
Ground = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def shade(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Three smooth bands of ground, 0 to 1, as a function of UTM metres."""
    waves = [np.sin(x / 23 + band) * np.cos(y / 31 - band) for band in range(3)]
    return 0.5 + 0.45 * np.stack(waves)


def furrow(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Waves of four pixels of 1.2 m, from west to east, from south to north and across."""
    return 0.5 + 0.4 * np.sin(np.stack([x, y, (x + y) / 2**0.5]) * 2 * np.pi / 4.8)


def paint(
    path: Path,
    transform: Affine,
    shape: tuple[int, int] = SIZE,
    crs: str = UTM,
    ground: Ground = shade,
    **more: Any,
) -> Path:
    """A file of some ground on any grid, 16 bits deep."""
    rows, cols = np.indices(shape) + 0.5
    x = transform.a * cols + transform.b * rows + transform.c
    y = transform.d * cols + transform.e * rows + transform.f
    if crs != UTM:
        x, y = Transformer.from_crs(crs, UTM, always_xy=True).transform(x, y)
    values = np.rint(ground(x, y) * 65535).astype(np.uint16)
    if "hidden" in more:
        values[:, more.pop("hidden")] = 0
    return save(path, values, transform, crs=crs, **more)


def open_ground(path: Path, resolution: float | None = METRES, **more: Any) -> RasterSource:
    return RasterSource(path, resolution=resolution, normalize="dtype", on_ground=True, **more)


def expected_at(source: RasterSource, ground: Ground = shade) -> NDArray[np.float64]:
    """The ground at the centres of a source's work grid."""
    rows, cols = np.indices(source.grid.shape)
    world = source.grid.to_world(np.stack([rows, cols], axis=-1))
    return ground(world[..., 0], world[..., 1])


HERE = Affine.translation(*CORNER)
DEGREES = Affine(1.0e-5, 0, 116.3354, 0, -0.8e-5, 39.8571)
MERCATOR = Affine.translation(*Transformer.from_crs(UTM, 3857, always_xy=True).transform(*CORNER))
FORMS: dict[str, tuple[Affine, str]] = {
    "finer": (HERE @ Affine.scale(0.5, -0.5), UTM),
    "resampled by 10 %": (HERE @ Affine.scale(1.32, -1.32), UTM),
    "coarser": (HERE @ Affine.scale(2.1, -2.1), UTM),
    "south-up": (HERE @ Affine.scale(0.9, 0.9), UTM),
    "turned by 10": (HERE @ Affine.rotation(10) @ Affine.scale(0.9, -0.9), UTM),
    "turned by 30": (HERE @ Affine.rotation(30) @ Affine.scale(0.5, -0.5), UTM),
    "turned by 45": (HERE @ Affine.rotation(45) @ Affine.scale(2.5, -2.5), UTM),
    "turned by 90": (HERE @ Affine.rotation(90) @ Affine.scale(0.9, -0.9), UTM),
    "turned by 200": (HERE @ Affine.rotation(200) @ Affine.scale(0.9, -0.9), UTM),
    "mirrored and turned": (HERE @ Affine.rotation(70) @ Affine.scale(0.9, 0.9), UTM),
    "web mercator": (MERCATOR @ Affine.scale(1.194, -1.194), "EPSG:3857"),
    "degrees": (DEGREES, "EPSG:4326"),
    "neighbouring zone": (
        Affine.translation(*Transformer.from_crs(UTM, 32649, always_xy=True).transform(*CORNER))
        @ Affine.scale(0.9, -0.9),
        "EPSG:32649",
    ),
}


@pytest.mark.parametrize("form", [name for name in FORMS if name != "neighbouring zone"])
def test_every_file_gives_the_ground_of_one_lattice(tmp_path: Path, form: str) -> None:
    transform, crs = FORMS[form]
    with open_ground(paint(tmp_path / "a.tif", transform, crs=crs)) as source:
        assert source.work_crs.to_epsg() == 32650
        place = source.transform
        assert (place.a, place.b, place.d, place.e) == (METRES, 0, 0, -METRES)
        # It begins at a whole stride of the ground.
        for start, anchor, sign in (
            (place.c, source.work.anchor[1], 1),
            (place.f, source.work.anchor[0], -1),
        ):
            assert anchor % 32 == 0
            assert start == pytest.approx(sign * anchor * METRES, abs=1e-6)
        image, valid = whole(source)
        # All of it is seen, and nothing else; the last pixel at an edge may be half covered.
        area = abs(transform.determinant) * SIZE[0] * SIZE[1]
        if crs == UTM:
            assert valid.sum() * METRES**2 == pytest.approx(area, rel=0.02)
        inner = (
            valid
            & np.roll(valid, 2, 0)
            & np.roll(valid, -2, 0)
            & np.roll(valid, 2, 1)
            & np.roll(valid, -2, 1)
        )
        assert inner.sum() > 0.8 * valid.sum() > 0
        # Means and interpolation flatten waves of 150 m by less than a hundredth.
        np.testing.assert_allclose(image[:, inner], expected_at(source)[:, inner], atol=6e-3)


def test_a_scene_keeps_its_own_zone(tmp_path: Path) -> None:
    transform, crs = FORMS["neighbouring zone"]
    with open_ground(paint(tmp_path / "a.tif", transform, crs=crs)) as source:
        assert source.work_crs.to_epsg() == 32649


@pytest.mark.parametrize("form", ["finer", "resampled by 10 %", "web mercator"])
def test_a_cut_shows_the_same_pixels(tmp_path: Path, form: str) -> None:
    """The file cut 37 columns and 53 rows further: bit for bit, as straight grids give it, or to a hair."""
    transform, crs = FORMS[form]
    cut = transform @ Affine.translation(37, 53)
    with (
        open_ground(paint(tmp_path / "a.tif", transform, crs=crs)) as one,
        open_ground(paint(tmp_path / "b.tif", cut, (90, 130), crs=crs)) as other,
    ):
        down, across = (b - a for a, b in zip(one.work.anchor, other.work.anchor, strict=True))
        shape = other.grid.shape
        first = one.read(Window(down, across, *shape))
        second = other.read(Window(0, 0, *shape))
        # A spline looks eight pixels of the file around.
        shared = ndimage.binary_erosion(second.valid, iterations=10)
        assert shared.sum() > 500
        np.testing.assert_allclose(first.image[:, shared], second.image[:, shared], atol=2e-5)


@pytest.mark.parametrize("change", ["turned by 10", "turned by 45", "larger", "smaller", "web mercator"])
def test_what_is_four_pixels_wide_is_not_blurred(tmp_path: Path, change: str) -> None:
    """Linear interpolation would leave 0.7 to 1 of such waves: what was turned would look unlike itself."""
    transform, crs = {
        "turned by 10": (HERE @ Affine.rotation(10) @ Affine.scale(1.2, -1.2), UTM),
        "turned by 45": (HERE @ Affine.rotation(45) @ Affine.scale(1.2, -1.2), UTM),
        "larger": (HERE @ Affine.scale(1.32, -1.32), UTM),
        "smaller": (HERE @ Affine.scale(1.1, -1.1), UTM),
        "web mercator": FORMS["web mercator"],
    }[change]
    with open_ground(paint(tmp_path / "a.tif", transform, crs=crs, ground=furrow)) as source:
        image, valid = whole(source)
        inner = ndimage.binary_erosion(valid, iterations=11)
        assert inner.sum() > 5000
        np.testing.assert_allclose(
            image[:, inner], expected_at(source, furrow)[:, inner], atol=0.04 if change == "larger" else 0.03
        )


@pytest.mark.parametrize("pixel", [METRES, 0.9])
def test_quarter_turns_and_mirrors_give_equal_grids_bit_for_bit(tmp_path: Path, pixel: float) -> None:
    values = ramp(3, 70, 90)
    place = HERE @ Affine.scale(pixel, -pixel)
    forms: dict[str, tuple[NDArray[Any], Affine]] = {
        "north-up": (values, place),
        "south-up": (values[:, ::-1], place @ Affine.translation(0, 70) @ Affine.scale(1, -1)),
        "west-up": (values[:, :, ::-1], place @ Affine.translation(90, 0) @ Affine.scale(-1, 1)),
        "half turned": (values[:, ::-1, ::-1], place @ Affine.translation(90, 70) @ Affine.scale(-1, -1)),
        "exchanged": (values.swapaxes(1, 2), place @ Affine(0, 1, 0, 1, 0, 0)),
        "quarter turned": (
            values.swapaxes(1, 2)[:, ::-1],
            place @ Affine(0, 1, 0, 1, 0, 0) @ Affine.translation(0, 90) @ Affine.scale(1, -1),
        ),
    }
    answers = []
    for name, (turned, transform) in forms.items():
        path = save(tmp_path / f"{name}.tif", np.ascontiguousarray(turned), transform, crs=UTM)
        with RasterSource(path, resolution=METRES, on_ground=True) as source:
            answers.append((source.transform, source.work.anchor, *whole(source)))
            seen = source.find_seen((0, turned.shape[1]))
            assert seen.all()
            assert seen.shape == turned.shape[1:]
    for transform, anchor, image, valid in answers[1:]:
        assert transform == pytest.approx(answers[0][0], abs=1e-6)
        assert anchor == answers[0][1]
        np.testing.assert_array_equal(image, answers[0][2])
        np.testing.assert_array_equal(valid, answers[0][3])


def test_pixels_of_the_model_s_own_size_are_kept_and_begin_at_a_stride(tmp_path: Path) -> None:
    values = ramp(3, 50, 60)
    anchors: list[tuple[int, int]] = []
    for cut in (0, 5):
        place = HERE @ Affine.scale(METRES, -METRES) @ Affine.translation(cut, cut)
        path = save(tmp_path / f"{cut}.tif", values[:, cut:, cut:], place, crs=UTM)
        with RasterSource(path, resolution=METRES, on_ground=True) as source:
            assert not source.profile_info.resampled
            straight = source.work.straight
            assert straight is not None
            assert straight.scale == (1.0, 1.0)
            down, across = (int(start) for start in straight.starts)
            assert -32 < down <= 0
            assert -32 < across <= 0
            image, valid = whole(source)
            np.testing.assert_array_equal(image[:, -down:, -across:] * 255, values[:, cut:, cut:])
            assert valid[-down:, -across:].all()
            assert valid.sum() == (50 - cut) * (60 - cut)
            anchors.append((source.work.anchor[0] - down, source.work.anchor[1] - across))
    # The first pixel of the cut is the fifth of the whole, on the ground's lattice too.
    assert anchors[1] == (anchors[0][0] + 5, anchors[0][1] + 5)


@pytest.mark.parametrize("form", [*FORMS])
def test_a_grid_that_surrounds_a_scene_shows_the_same_ground(tmp_path: Path, form: str) -> None:
    transform, crs = FORMS[form]
    path = paint(tmp_path / "a.tif", transform, crs=crs)
    with open_ground(path) as close, open_ground(path, surround=64) as wide:
        first, second = close.work.anchor, wide.work.anchor
        assert first == (second[0] + 64, second[1] + 64)
        image, valid = whole(wide)
        expected, seen = whole(close)
        inner = np.s_[64 : 64 + seen.shape[0], 64 : 64 + seen.shape[1]]
        np.testing.assert_array_equal(image[:, *inner], expected)
        np.testing.assert_array_equal(valid[inner], seen)
        assert valid.sum() == seen.sum()
        assert valid.shape[0] >= seen.shape[0] + 128
        assert valid.shape[1] >= seen.shape[1] + 128


@pytest.mark.parametrize("form", ["turned by 30", "degrees"])
def test_windows_fit_together_whatever_is_read_at_a_time(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transform, crs = FORMS[form]
    path = paint(tmp_path / "a.tif", transform, crs=crs)
    with open_ground(path) as source:
        image, valid = whole(source)
        part = source.read(Window(17, 40, 50, 45))
    np.testing.assert_array_equal(part.image, image[:, 17:67, 40:85])
    np.testing.assert_array_equal(part.valid, valid[17:67, 40:85])
    monkeypatch.setattr(warp, "CHUNK_PIXELS", 4000)
    with open_ground(path) as source:
        np.testing.assert_array_equal(whole(source)[0], image)


def test_nodata_of_a_turned_scene_is_no_ground(tmp_path: Path) -> None:
    transform, _ = FORMS["turned by 30"]
    hidden = np.zeros(SIZE, bool)
    hidden[:, :100] = True
    with open_ground(paint(tmp_path / "a.tif", transform, hidden=hidden, nodata=0)) as source:
        image, valid = whole(source)
        assert valid.sum() * METRES**2 == pytest.approx(0.25 * SIZE[0] * 100, rel=0.03)
        # No value is drawn towards the black of what is missing.
        np.testing.assert_allclose(image[:, valid], expected_at(source)[:, valid], atol=0.02)


@pytest.mark.parametrize("form", ["finer", "turned by 10"])
def test_ground_beside_what_is_wanted_is_seen_but_not_answered(tmp_path: Path, form: str) -> None:
    transform, crs = FORMS[form]
    path = paint(tmp_path / "a.tif", transform, crs=crs)
    x, y = transform @ (100, 80)
    area = find_wanted_area(ReadOptions(bbox=(x - 12, y - 12, x + 12, y + 12)))
    with open_ground(path) as all_of_it, open_ground(path, area=area) as part:
        window = Window(0, 0, *part.grid.shape)
        block = part.read(window)
        down, across = (b - a for a, b in zip(all_of_it.work.anchor, part.work.anchor, strict=True))
        same = all_of_it.read(Window(down, across, window.height, window.width))
        assert block.seen is not None
        np.testing.assert_array_equal(block.image, same.image)
        np.testing.assert_array_equal(block.seen, same.valid)
        assert block.valid.sum() * METRES**2 == pytest.approx(24 * 24, rel=0.15)
        assert block.seen.sum() > 1.5 * block.valid.sum()


@pytest.mark.parametrize("form", [*FORMS])
def test_an_answer_on_the_lattice_comes_back_to_the_scene_s_own_pixels(tmp_path: Path, form: str) -> None:
    transform, crs = FORMS[form]
    with open_ground(paint(tmp_path / "a.tif", transform, crs=crs)) as source:
        rows, cols = source.grid.shape
        answer = expected_at(source)[0] if crs != "EPSG:32649" else np.full((rows, cols), 0.25)
        with RawRaster.create(tmp_path / "work.u8", (rows, cols)) as staged:
            staged.write(Window(0, 0, rows, cols), np.rint(answer * LEVELS).astype(np.uint8))
            lay_on_scene(staged, source, tmp_path / "scene.u8")
            lay_on_scene(staged, source, tmp_path / "half.u8", shape=(SIZE[0] // 2, SIZE[1] // 2))
        with RawRaster.open(tmp_path / "scene.u8", SIZE) as laid:
            found = laid.read(Window(0, 0, *SIZE))
        with RawRaster.open(tmp_path / "half.u8", (SIZE[0] // 2, SIZE[1] // 2)) as laid:
            halved = laid.read(Window(0, 0, SIZE[0] // 2, SIZE[1] // 2))
    if crs == "EPSG:32649":
        assert (found == 64).all()
        return
    down, across = np.indices(SIZE) + 0.5
    x = transform.a * across + transform.b * down + transform.c
    y = transform.d * across + transform.e * down + transform.f
    if crs != UTM:
        x, y = Transformer.from_crs(crs, UTM, always_xy=True).transform(x, y)
    truth = shade(x, y)[0] * LEVELS
    assert (found != NODATA).all()
    # At the very edge half of what surrounds a pixel is not known.
    assert np.abs(found - truth)[3:-3, 3:-3].max() <= 3
    means = truth.reshape(SIZE[0] // 2, 2, SIZE[1] // 2, 2).mean(axis=(1, 3))
    assert np.abs(halved - means)[3:-3, 3:-3].max() <= 4


@pytest.mark.parametrize(
    ("crs", "transform", "kept"),
    [
        ("EPSG:3031", Affine(10, 0, -500.0, 0, -10, 500.0), True),
        ("EPSG:4326", Affine(0.1, 0, -10.0, 0, -0.1, 60.0), True),
        ("EPSG:3857", Affine(10, 0, 1e6, 0, -10, 8_399_737.89), False),
        ("EPSG:2263", Affine(10, 0, 9.8e5, 0, -10, 2e5), False),
    ],
)
def test_lattice_beyond_utm_is_the_scene_s_own(
    tmp_path: Path, crs: str, transform: Affine, kept: bool
) -> None:
    values = ramp(3, 100, 100)
    with RasterSource(
        save(tmp_path / "a.tif", values, transform, crs=crs), resolution=6.0, on_ground=True
    ) as source:
        assert (source.work_crs == source.crs) == kept
        pixel = source.profile_info.work_pixel
        assert pixel == pytest.approx((6.0, 6.0), rel=0.05)
        assert source.work.anchor[0] % 32 == source.work.anchor[1] % 32 == 0


def test_scenes_without_a_place_are_read_as_ever(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", ramp(3, 40, 50), crs=None)
    with RasterSource(path, resolution=1.2, allow_no_crs=True, on_ground=True) as source:
        assert source.grid.shape == (40, 50)
        assert source.work.anchor == (0, 0)
        assert source.on_own_grid
        assert not source.on_ground


@pytest.mark.parametrize("form", ["finer", "coarser", "turned by 30", "web mercator"])
def test_noise_in_a_file_s_numbers_changes_nothing(tmp_path: Path, form: str) -> None:
    """Other programs write the same place with other last digits; it stays the same place, bit for bit."""
    transform, crs = FORMS[form]
    noisy = Affine(*(value * (1 + 2e-13 * step) for step, value in enumerate(transform[:6], start=-3)))
    with open_ground(paint(tmp_path / "a.tif", transform, crs=crs)) as source:
        image, valid = whole(source)
    path = paint(tmp_path / "b.tif", transform, crs=crs)
    with rasterio.open(path, "r+") as dataset:
        dataset.transform = noisy
    with open_ground(path) as source:
        found, known = whole(source)
    np.testing.assert_array_equal(known, valid)
    np.testing.assert_allclose(found, image, atol=1e-7)
