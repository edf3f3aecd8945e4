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
from domainsam.infer.engine import EngineResult, map_scene
from domainsam.infer.options import EngineOptions
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


@pytest.mark.parametrize("tile", [192, 256])
def test_tile_size_hardly_changes_the_answer(
    scene: ArraySource, reference: NDArray[np.uint8], tmp_path: Path, tile: int
) -> None:
    assert changed(run(scene, tmp_path, tile=tile)[1], reference) <= 2e-3


def test_strips_do_not_change_the_answer(
    scene: ArraySource, reference: NDArray[np.uint8], tmp_path: Path
) -> None:
    assert changed(run(scene, tmp_path, strip_width=160)[1], reference) <= 1e-4


def test_coarse_method_only_drops_small_objects(scene: ArraySource, tmp_path: Path) -> None:
    result, values = run(scene, tmp_path, method="coarse")
    coarse = np.fromfile(result.coarse, dtype=np.uint8).reshape(SHAPE)
    same = values == coarse
    assert (values[~same] == result.level - 1).all()
    assert (coarse[~same] >= result.level).all()
    assert result.found > len(result.components)


def test_objects_need_a_foundation(scene: ArraySource, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a foundation"):
        map_scene(scene, BrightPrompter(), None, tmp_path)


@pytest.mark.parametrize("shape", [(1, 700), (700, 1), (5, 7), (40, 300)])
def test_scene_smaller_than_a_tile(tmp_path: Path, shape: tuple[int, int]) -> None:
    scene = ArraySource(np.full((3, *shape), 0.9, dtype=np.float32), np.ones(shape, dtype=bool))
    result, values = run(scene, tmp_path, min_pixels=1)
    assert (values >= result.level).mean() > 0.9
    assert len(result.components) == 1
