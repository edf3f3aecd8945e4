"""The engine on small scenes: invariants of the answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from domainsam.errors import ConfigError
from domainsam.foundation.fake import FakeFoundation
from domainsam.infer.blend import NODATA
from domainsam.infer.engine import map_scene
from domainsam.infer.objects import EngineResult
from domainsam.infer.options import EngineOptions
from domainsam.infer.specks import Specks, drop_specks
from domainsam.infer.store import RawRaster
from domainsam.protocols import Window
from tests.core.engine_fakes import ArraySource, BrightPrompter, one_thread, textured_scene

SHAPE = (300, 390)


@pytest.fixture(autouse=True, scope="module")
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def scene() -> ArraySource:
    return textured_scene(SHAPE)


def run(scene: ArraySource, folder: Path, **options: Any) -> tuple[EngineResult, NDArray[np.uint8]]:
    chosen = EngineOptions(**{"tile": 128, "overlap": 64, "min_pixels": 60, **options})
    result = map_scene(scene, BrightPrompter(), FakeFoundation(), folder, chosen)
    return result, np.fromfile(result.probability, dtype=np.uint8).reshape(result.shape)


@pytest.fixture(scope="module")
def reference(scene: ArraySource, tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.uint8]:
    return run(scene, tmp_path_factory.mktemp("reference"))[1]


def changed(one: NDArray[np.uint8], other: NDArray[np.uint8], level: int = 127) -> float:
    """Share of pixels that are foreground in one mask only."""
    inside = ((values >= level) & (values != NODATA) for values in (one, other))
    return float((next(inside) != next(inside)).mean())


def test_scene_has_small_and_large_objects(scene: ArraySource, tmp_path: Path) -> None:
    result, values = run(scene, tmp_path)
    sizes = [max(item.bounds.height, item.bounds.width) for item in result.components]
    assert min(sizes) < 32 < 64 < max(sizes)
    assert result.valid_pixels == scene.valid.sum()
    assert result.object_pixels == ((values >= 127) & (values != NODATA)).sum() > 0
    assert ((values == NODATA) == ~scene.valid).all()
    assert all(0 < item.confidence <= item.mean_probability <= 1 for item in result.components)


def test_workers_do_not_change_the_answer(
    scene: ArraySource, reference: NDArray[np.uint8], tmp_path: Path
) -> None:
    assert (run(scene, tmp_path, workers=5)[1] == reference).all()


@pytest.mark.parametrize("size", [1, 3, 16])
def test_batch_size_hardly_changes_the_answer(
    scene: ArraySource, reference: NDArray[np.uint8], tmp_path: Path, size: int
) -> None:
    assert changed(run(scene, tmp_path, batch_size=size)[1], reference) <= 1e-4


@pytest.mark.parametrize("offset", [(32, 0), (0, 96), (77, 45)])
def test_shifted_tiles_hardly_change_the_answer(
    scene: ArraySource, reference: NDArray[np.uint8], tmp_path: Path, offset: tuple[int, int]
) -> None:
    assert changed(run(scene, tmp_path, offset=offset)[1], reference) <= 2e-3


def test_reduced_precision_hardly_changes_the_answer(
    scene: ArraySource, reference: NDArray[np.uint8], tmp_path: Path
) -> None:
    assert changed(run(scene, tmp_path, dtype="bfloat16")[1], reference) <= 0.02


@pytest.mark.parametrize("tile", [192, 256])
def test_tile_size_hardly_changes_the_answer(
    scene: ArraySource, reference: NDArray[np.uint8], tmp_path: Path, tile: int
) -> None:
    assert changed(run(scene, tmp_path, tile=tile)[1], reference) <= 2e-3


def test_tiles_of_the_usual_sizes_hardly_change_the_answer(tmp_path: Path) -> None:
    """The bound that the documentation states: one pixel in a thousand, for 384 to 768 and any shift."""
    scene = textured_scene((800, 640), blob=20.0)
    usual = {"tile": 512, "overlap": 128, "field": 256}
    reference = run(scene, tmp_path, **usual)[1]
    for change in ({"tile": 384}, {"tile": 768, "offset": (37, 301)}):
        assert changed(run(scene, tmp_path, **{**usual, **change})[1], reference) <= 1e-3


def test_an_object_that_crosses_tiles_is_prompted_once(tmp_path: Path) -> None:
    image = np.full((3, 300, 300), 0.4, dtype=np.float32)
    image[:, 100:140, 110:170] = 0.8
    scene = ArraySource(image, np.ones((300, 300), dtype=bool))
    result, values = run(scene, tmp_path, field=256)
    assert result.crops == len(result.components) == 1
    inside = values >= result.level
    truth = image[0] > 0.6
    assert (inside & truth).sum() / (inside | truth).sum() > 0.8


def test_progress_counts_every_pixel_of_every_stage(scene: ArraySource, tmp_path: Path) -> None:
    told: dict[str, list[int]] = {}

    def progress(stage: str, done: int, total: int) -> None:
        assert total == SHAPE[0] * SHAPE[1]
        told.setdefault(stage, []).append(done)

    map_scene(
        scene,
        BrightPrompter(),
        FakeFoundation(),
        tmp_path,
        EngineOptions(tile=128, overlap=64),
        progress=progress,
    )
    assert list(told) == ["coarse", "objects"]
    for counts in told.values():
        assert counts == sorted(counts)
        assert (counts[0], counts[-1]) == (0, SHAPE[0] * SHAPE[1])


@pytest.mark.parametrize(
    "option",
    [
        {"tile": 100},
        {"overlap": 512},
        {"batch_size": 0},
        {"workers": 0},
        {"threshold": 0.0},
        {"proposal": 1.5},
        {"views": 3},
        {"field": 40},
        {"method": "sam"},
        {"dtype": "float8"},
    ],
)
def test_impossible_options_say_what_was_expected(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(option))} is .*expected"):
        EngineOptions(**option)


def test_strips_do_not_change_the_answer(
    scene: ArraySource, reference: NDArray[np.uint8], tmp_path: Path
) -> None:
    assert changed(run(scene, tmp_path, strip_width=160)[1], reference) <= 1e-4


def test_coarse_method_gives_the_coarse_probability(scene: ArraySource, tmp_path: Path) -> None:
    result, values = run(scene, tmp_path, method="coarse")
    np.testing.assert_array_equal(values, np.fromfile(result.coarse, dtype=np.uint8).reshape(SHAPE))
    assert result.found > len(result.components) == result.kept > 0


@pytest.mark.parametrize("method", ["objects", "coarse"])
def test_threshold_cuts_the_probability_and_leaves_it_as_it_is(
    scene: ArraySource, tmp_path: Path, method: str
) -> None:
    answers = [
        run(scene, tmp_path / str(threshold), threshold=threshold, method=method)
        for threshold in (0.2, 0.5, 0.9)
    ]
    for _, values in answers[1:]:
        np.testing.assert_array_equal(values, answers[0][1])
    assert [result.level for result, _ in answers] == [51, 127, 229]
    assert answers[0][0].object_pixels > answers[1][0].object_pixels > answers[2][0].object_pixels > 0


def test_specks_are_dropped_from_a_copy_and_counted(tmp_path: Path) -> None:
    values = np.full((40, 50), 30, np.uint8)
    values[2:12, 2:12] = 200
    # Two specks, one of them of two pixels that touch at a corner; and one beside nodata.
    values[20, 20] = values[30, 30] = values[31, 31] = values[0, 40] = 220
    values[0, 41:] = NODATA
    with (
        RawRaster.create(tmp_path / "a.u8", (40, 50)) as answer,
        RawRaster.create(tmp_path / "b.u8", (40, 50)) as target,
    ):
        answer.write(Window(0, 0, 40, 50), values)
        assert drop_specks(answer, target, 127, 3) == Specks(3, 4)
        found = target.read(Window(0, 0, 40, 50))
        np.testing.assert_array_equal(answer.read(Window(0, 0, 40, 50)), values)
    expected = np.where(values == 220, 126, values)
    np.testing.assert_array_equal(found, expected)


def test_pass_one_is_run_once_for_runs_that_share_it(
    scene: ArraySource, tmp_path: Path, reference: NDArray[np.uint8]
) -> None:
    kept = tmp_path / "kept.u8"
    options = EngineOptions(tile=128, overlap=64, min_pixels=60)
    prompter = BrightPrompter()
    calls = []
    for name in ("a", "b"):
        result = map_scene(scene, prompter, FakeFoundation(), tmp_path / name, options, first_pass=kept)
        calls.append(prompter.calls)
        assert result.probability.read_bytes() == reference.tobytes()
        assert result.coarse.read_bytes() == kept.read_bytes()
    assert 0 < calls[1] - calls[0] < calls[0]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["kept.u8"]


def test_crops_get_no_second_look_where_no_prompt_is_made_of_it(
    scene: ArraySource, tmp_path: Path, reference: NDArray[np.uint8]
) -> None:
    options = EngineOptions(tile=128, overlap=64, min_pixels=60)
    prompter = BrightPrompter(adds_feature=False)
    map_scene(scene, prompter, FakeFoundation(), tmp_path / "a", options, first_pass=tmp_path / "kept.u8")
    looks = prompter.calls
    again = map_scene(
        scene, prompter, FakeFoundation(), tmp_path / "b", options, first_pass=tmp_path / "kept.u8"
    )
    assert prompter.calls == looks > 0
    assert again.probability.read_bytes() == reference.tobytes()


def test_objects_need_a_foundation(scene: ArraySource, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a foundation"):
        map_scene(scene, BrightPrompter(), None, tmp_path)


@pytest.mark.parametrize("shape", [(1, 700), (700, 1), (5, 7), (40, 300)])
def test_scene_smaller_than_a_tile(tmp_path: Path, shape: tuple[int, int]) -> None:
    scene = ArraySource(np.full((3, *shape), 0.9, dtype=np.float32), np.ones(shape, dtype=bool))
    result, values = run(scene, tmp_path, min_pixels=1)
    assert (values >= result.level).mean() > 0.9
    assert len(result.components) == 1
