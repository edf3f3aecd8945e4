"""A run that is broken off ends as if it had not been."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domainsam.errors import InputError
from domainsam.foundation.fake import FakeFoundation
from domainsam.infer.engine import map_scene
from domainsam.infer.journal import JOURNAL_FILE
from domainsam.infer.objects import COARSE_FILE, FINAL_FILE, EngineResult
from domainsam.infer.options import EngineOptions
from domainsam.protocols import Coarse
from tests.core.engine_fakes import BrightPrompter, WaveSource, one_thread, textured_scene

SHAPE = (230, 260)
OPTIONS = EngineOptions(tile=96, overlap=32, min_pixels=40, strip_width=130, batch_size=3)
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.core.infer.test_resume"])


@pytest.fixture(autouse=True, scope="module")
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


def job(folder: Path, resume: bool = False, delay: float = 0.0) -> EngineResult:
    prompter = BrightPrompter(delay=delay)
    return map_scene(textured_scene(SHAPE), prompter, FakeFoundation(), folder, OPTIONS, resume=resume)


def outcome(folder: Path, result: EngineResult) -> tuple[bytes, bytes, Any]:
    return (folder / COARSE_FILE).read_bytes(), (folder / FINAL_FILE).read_bytes(), result.components


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, Any]:
    folder = tmp_path_factory.mktemp("unbroken")
    return outcome(folder, job(folder))


class FailingPrompter(BrightPrompter):
    """Raises at its n-th look."""

    def __init__(self, last: int, error: type[BaseException]) -> None:
        super().__init__()
        self.last = last
        self.error = error

    def coarse(self, images: Any) -> Coarse:
        if self.calls >= self.last:
            raise self.error
        return super().coarse(images)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_resumes_after_an_exception_anywhere(
    tmp_path: Path, unbroken: tuple[bytes, bytes, Any], error: type[BaseException]
) -> None:
    breaks = 0
    for last in (0, 1, 4, 9, 15, 22, 3, 1000):
        prompter = FailingPrompter(last, error)
        try:
            result = map_scene(
                textured_scene(SHAPE), prompter, FakeFoundation(), tmp_path, OPTIONS, resume=True
            )
        except error:
            breaks += 1
    assert breaks >= 5
    assert outcome(tmp_path, result) == unbroken


def test_a_finished_run_resumes_without_work(tmp_path: Path, unbroken: tuple[bytes, bytes, Any]) -> None:
    job(tmp_path)
    prompter = BrightPrompter()
    result = map_scene(textured_scene(SHAPE), prompter, FakeFoundation(), tmp_path, OPTIONS, resume=True)
    assert prompter.calls == 0
    assert result.resumed
    assert outcome(tmp_path, result) == unbroken


def test_another_model_is_refused(tmp_path: Path) -> None:
    job(tmp_path)
    with pytest.raises(InputError, match="prompter was"):
        map_scene(
            textured_scene(SHAPE), BrightPrompter(0.6), FakeFoundation(), tmp_path, OPTIONS, resume=True
        )


def test_another_scene_is_refused(tmp_path: Path) -> None:
    arguments = (BrightPrompter(), FakeFoundation(), tmp_path, OPTIONS)
    map_scene(textured_scene(SHAPE), *arguments, identity={"source": ["a.tif", 7]})
    with pytest.raises(InputError, match="source was"):
        map_scene(textured_scene(SHAPE), *arguments, identity={"source": ["a.tif", 8]}, resume=True)


def slow_job(folder: Path) -> None:
    with one_thread():
        job(folder, resume=True, delay=0.01)


def units(folder: Path) -> int:
    path = folder / JOURNAL_FILE
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_at(folder: Path, records: int, later: float) -> bool:
    """Run the job and kill it some time after a number of journal records; False if it ended before."""
    process: ForkServerProcess = FORKS.Process(target=slow_job, args=(folder,))
    process.start()
    while process.is_alive() and units(folder) < records:
        time.sleep(0.002)
    time.sleep(later)
    process.kill()
    process.join()
    return process.exitcode == -9


def test_kill_9_at_any_moment(tmp_path: Path, unbroken: tuple[bytes, bytes, Any]) -> None:
    rng = np.random.default_rng(0)
    killed = [kill_at(tmp_path, records, rng.uniform(0, 0.03)) for records in (0, 1, 3, 7, 8, 12, 17)]
    assert sum(killed) >= 5
    assert outcome(tmp_path, job(tmp_path, resume=True)) == unbroken


def measured_job(shape: tuple[int, int], folder: Path, answers: SimpleQueue[int]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    options = EngineOptions(tile=256, overlap=64, batch_size=4, strip_width=1024, field=256)
    with one_thread():
        map_scene(WaveSource(shape), BrightPrompter(), FakeFoundation(), folder, options)
    answers.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def peak_growth(shape: tuple[int, int], folder: Path) -> float:
    """Megabytes by which a run's peak memory exceeds that of the bare process."""
    answers = FORKS.SimpleQueue()
    process = FORKS.Process(target=measured_job, args=(shape, folder, answers))
    process.start()
    kilobytes = answers.get()
    process.join()
    return kilobytes / 1024


@pytest.mark.slow
def test_memory_is_flat_in_height_and_bounded_in_width(tmp_path: Path) -> None:
    small = peak_growth((4096, 1024), tmp_path / "small")
    tall = peak_growth((8192, 1024), tmp_path / "tall")
    wide = peak_growth((2048, 4096), tmp_path / "wide")
    # Without flat memory twice the pixels would need about twice as much.
    assert tall < 1.15 * small + 10
    assert wide < 1.3 * small + 10
