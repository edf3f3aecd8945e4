"""One scene over several workers: the bytes of one process, whatever is killed or left over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from domainsam.infer import pieces
from domainsam.infer.engine import map_piece
from domainsam.infer.order import Course
from domainsam.infer.spread import SpreadOptions
from domainsam.infer.tiling import TileGrid
from domainsam.testing.synthetic import make_settlement_scene
from domainsam_urban import finders
from domainsam_urban import map as mapping
from domainsam_urban.map import map_scenes
from domainsam_urban.model.settlement import SettlementModel
from domainsam_urban.settings import MapOptions, OutputOptions, RunOptions
from tests.ct.standin import untouched
from tests.urban.tiny import write_scene

pytest.importorskip("distributed")
RUN = RunOptions(tile=64, overlap=16, device="cpu")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    import distributed

    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    quiet = {"silence_logs": logging.CRITICAL, "memory_limit": None, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**settings, **quiet) as cluster, distributed.Client(cluster) as opened:
        yield opened


@pytest.fixture
def spread(
    client: Any, model: SettlementModel, monkeypatch: pytest.MonkeyPatch
) -> Callable[[MapOptions], MapOptions]:
    """Options of the same run over two workers, with the tiny model and pieces of two units."""
    from domainsam.infer.daskwork import OnDask

    monkeypatch.setattr(finders, "load_model", lambda options: model)
    monkeypatch.setattr(finders, "choose_executor", lambda options: OnDask(options, client))
    monkeypatch.setattr(pieces, "choose_units", lambda course, workers: 2)
    return lambda options: replace(options, spread=SpreadOptions("tcp://given:1"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> str:
    image = make_settlement_scene(220, 96, seed=4).image
    return str(write_scene(tmp_path_factory.mktemp("scene") / "s_2021-05-30.tif", image))


def options(folder: Path, method: str = "full", resume: bool = False) -> MapOptions:
    outputs = OutputOptions((folder / "s.gpkg",), mask=folder / "m.tif", probability=folder / "p.tif")
    return MapOptions(outputs, run=replace(RUN, method=method), quiet=True, resume=resume)


@pytest.mark.parametrize(
    "method", [pytest.param(method, marks=pytest.mark.slow) for method in ("full", "coarse")]
)
def test_pieces_give_the_bytes_of_one_process(
    tmp_path: Path, scene: str, spread: Callable[[MapOptions], MapOptions], method: str
) -> None:
    map_scenes([scene], options(tmp_path / "one", method))
    batch = map_scenes([scene], spread(options(tmp_path / "many", method)))
    assert not batch.results[0].resumed
    one, many = untouched(tmp_path / "one"), untouched(tmp_path / "many")
    del one["s.stac.json"], many["s.stac.json"]  # it tells the time
    assert one == many


def test_what_was_done_before_a_failure_is_kept(
    tmp_path: Path,
    scene: str,
    spread: Callable[[MapOptions], MapOptions],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last piece fails for good; with --resume it alone is done, and the bytes are the same."""
    map_scenes([scene], options(tmp_path / "one", "coarse"))
    real, done = map_piece, list[str]()

    def fail(*arguments: Any, **more: Any) -> Any:
        if arguments[3].piece.first >= 4:
            raise RuntimeError("the disk of a worker is full")
        return real(*arguments, **more)

    def count(*arguments: Any, **more: Any) -> Any:
        done.append(arguments[3].name)
        return real(*arguments, **more)

    monkeypatch.setattr(finders, "map_piece", fail)
    broken = spread(options(tmp_path / "many", "coarse"))
    with pytest.raises(OSError, match="the disk of a worker is full"):
        map_scenes([scene], replace(broken, spread=replace(broken.spread, retries=0)))
    assert [path.name for path in (tmp_path / "many").iterdir()] == [".s.domainsam"]
    monkeypatch.setattr(finders, "map_piece", count)
    map_scenes([scene], spread(options(tmp_path / "many", "coarse", resume=True)))
    assert len(done) == len(set(done)) > 0
    assert all(int(name.split()[-3]) >= 4 for name in done)
    one, many = untouched(tmp_path / "one"), untouched(tmp_path / "many")
    del one["s.stac.json"], many["s.stac.json"]
    assert one == many


def test_records_of_another_run_are_not_believed(
    tmp_path: Path, scene: str, spread: Callable[[MapOptions], MapOptions]
) -> None:
    """A run that begins anew finds records that a killed one left, and does every piece itself."""
    map_scenes([scene], options(tmp_path / "one", "coarse"))
    room = tmp_path / "many" / ".s.domainsam"
    (room / "pieces-old").mkdir(parents=True)
    (room / "pieces-old" / "coarse-0-0-0.json").write_text('{"units": [{"unit": ["coarse", 0, 0, 0]}]}')
    (room / "coarse.u8").write_bytes(b"\x07" * 100)
    map_scenes([scene], spread(options(tmp_path / "many", "coarse")))
    assert (tmp_path / "many/p.tif").read_bytes() == (tmp_path / "one/p.tif").read_bytes()


@pytest.mark.parametrize(
    ("rows", "workers", "units"),
    # A piece takes as long as its own units and one more: 1 x 6, 2 x 8, 3 x 8 and 1 x 3 units of time.
    [(17, 4, 5), (50, 4, 7), (75, 4, 7), (17, 16, 2)],
)
def test_pieces_are_shared_so_that_the_last_worker_ends_soonest(rows: int, workers: int, units: int) -> None:
    grid = TileGrid(tuple(range(0, rows * 100, 100)), (0,), (100, 100))
    course = Course("coarse", grid, (rows * 100, 100), (range(1),), 100)
    assert pieces.choose_units(course, workers) == units


@pytest.mark.parametrize(
    ("memory", "alone", "limited"),
    # The client of one scene in pieces is no worker, so the limit is not its own.
    [(None, False, False), (10**9, False, True), (10**9, True, False)],
)
def test_workers_with_limited_memory_keep_no_freed_buffers(
    memory: int | None, alone: bool, limited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(mapping, "keep_freed_memory", lambda: asked.append("keep"))
    monkeypatch.setattr(mapping, "load_finder", lambda options: object())
    spread = SpreadOptions("local:2", memory_per_task=memory)
    mapping.prepare_maps(MapOptions(OutputOptions(()), spread=spread, alone=alone))
    assert asked == ([] if limited else ["keep"])


@pytest.mark.parametrize("units", [1, 3, 100])
def test_pieces_cover_every_unit_once(units: int) -> None:
    course = Course("coarse", TileGrid.cover((500, 400), 64, 16), (500, 400), (range(1),), 128)
    whole = [unit for strip in course.strips(()) for unit in strip.units]
    found = [
        unit for piece in course.cut(units, ()) for unit in course.take(piece, ()).units if not unit.repeated
    ]
    assert found == whole
    assert sum(course.count_pixels(piece) for piece in course.cut(units, ())) == 500 * 400
    finished = {tuple(unit.key) for unit in whole[:3]}
    left = course.cut(units, finished)
    assert all(piece in course.cut(units, ()) for piece in left)
    assert len(course.cut(units, {tuple(unit.key) for unit in whole})) == 0
