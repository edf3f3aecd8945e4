"""Predict or read each year, and warp it to the common ground."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path

from domainsam.errors import OutputError
from domainsam.infer.account import watching
from domainsam.infer.executor import Tasks, choose_executor, closing_iterator
from domainsam.infer.outputs import OutputPlan
from domainsam.infer.spread import SpreadOptions
from domainsam.infer.workroom import WorkRoom
from domainsam.limits import Limits, get_limits, set_limits
from domainsam.progress import Progress, report_nothing, report_progress
from domainsam_urban.model.settlement import SettlementModel
from domainsam_urban.settings import MapOptions
from domainsam_urban.trend.align.warp import warp_to_ground
from domainsam_urban.trend.ground import CommonGround
from domainsam_urban.trend.read.followed import Follower
from domainsam_urban.trend.read.maps import stage_mask, stage_polygons
from domainsam_urban.trend.read.scenes import predict_year
from domainsam_urban.trend.read.survey import YearInput

LoadModel = Callable[[MapOptions], SettlementModel]


@dataclass(frozen=True)
class LayerJob:
    """One year to be brought to the ground.

    ``own`` takes the year on its own grid, ``layer`` the year on the ground;
    ``shift`` is metres east and north by which it lies off.
    """

    number: int
    input: YearInput
    ground: CommonGround
    own: Path
    layer: Path
    shift: tuple[float, float] = (0.0, 0.0)


def stage_existing(job: LayerJob) -> None:
    """Write a year that was given as a mask as stored probabilities."""
    if job.own.is_file():
        return
    if job.input.rule is not None:
        stage_mask(job.input.year.path, job.input.rule, job.own)
    else:
        stage_polygons(job.input.year.path, job.own, job.ground)


def make_layers(
    jobs: Sequence[LayerJob],
    options: MapOptions,
    model: SettlementModel | Follower | None,
    load: LoadModel,
    workers: int,
    spread: SpreadOptions | None = None,
) -> Iterator[LayerJob]:
    """Bring years to the ground, in any order; yields each as its file is complete.

    Parameters
    ----------
    model
        For predicting in this process; None where all years are masks.
    load
        Loads the model in each further process; has to be importable by name.
    workers
        Processes.
    spread
        Whose workers do the years, if a scheduler is named there.

    Raises
    ------
    DomainSamError
        Whatever made a year fail; years that are done have been yielded before.
    """
    if spread is not None and spread.scheduler is not None and jobs:
        yield from _on_workers(jobs, options, model is not None, load, spread)
        return
    if workers <= 1 or len(jobs) <= 1 or isinstance(model, Follower):
        for job in jobs:
            with report_progress(job.input.year.label, options.quiet) as progress:
                make_layer(job, options, model, progress)
            yield job
        return
    yield from _in_processes(jobs, options, model is not None, load, min(workers, len(jobs)))


def make_layer(
    job: LayerJob,
    options: MapOptions,
    model: SettlementModel | Follower | None,
    progress: Progress = report_nothing,
) -> None:
    """Predict a year, or read it, and warp it."""
    if job.input.reading is None:
        stage_existing(job)
    elif not job.own.is_file():
        assert model is not None
        if isinstance(model, Follower):
            model.follow_year(job.input.year.path, job.input.reading, job.own, progress)
        else:
            predict_year(job.input.year.path, job.input.reading, options, model, job.own, progress)
    warp_to_ground(job.own, job.layer, job.ground, job.shift)


@dataclass(frozen=True)
class YearPlan(OutputPlan):
    """A year as a task of a scheduler."""

    job: LayerJob

    @property
    def files(self) -> tuple[Path, ...]:
        """The year on the ground."""
        return (self.job.layer,)

    @property
    def complete(self) -> bool:
        """Never: what a worker that died has left may be half of a layer. Its prediction is gone on with."""
        return False

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.job.input.year.label


def _on_workers(
    jobs: Sequence[LayerJob], options: MapOptions, predicting: bool, load: LoadModel, spread: SpreadOptions
) -> Iterator[LayerJob]:
    plans = [YearPlan(job) for job in jobs]
    prepare = partial(prepare_years, options, load if predicting else None)
    failed: Exception | None = None
    with watching(spread, "years", options.quiet) as watcher:
        watcher.begin([plan.name for plan in plans], ())
        tasks = Tasks(plans, attrgetter("name"), prepare)
        outcomes = choose_executor(spread).run(tasks, range(len(plans)))
        with closing_iterator(outcomes):
            for outcome in outcomes:
                watcher.outcome(outcome)
                if outcome.error is None:
                    yield jobs[outcome.index]
                else:
                    failed = failed or outcome.error
    if failed is not None:
        raise failed


def prepare_years(options: MapOptions, load: LoadModel | None) -> Callable[[YearPlan], str]:
    """Load the model, in the process that calls this; returns what brings a year to the ground.

    Raises
    ------
    DomainSamError
        If it cannot be loaded.
    """
    model = None if load is None else load(options)

    def do(plan: YearPlan) -> str:
        # Where a client was killed, a worker of it may still be at this year.
        with WorkRoom(plan.work, resume=True):
            make_layer(plan.job, options, model)
        return plan.name

    return do


_here: dict[str, SettlementModel | None] = {}
"""The model of a further process, loaded once."""


def _in_processes(
    jobs: Sequence[LayerJob], options: MapOptions, predicting: bool, load: LoadModel, workers: int
) -> Iterator[LayerJob]:
    # Forking would copy the threads' locks of torch and GDAL in whatever state they are.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        workers,
        context,
        initializer=_begin,
        initargs=(options, load if predicting else None, workers, get_limits()),
    )
    try:
        waiting = {pool.submit(_work, job, options): job for job in jobs}
        failed: BaseException | None = None
        for future in as_completed(waiting):
            error = future.exception()
            if error is None:
                yield waiting[future]
            elif failed is None:
                failed = error
        if isinstance(failed, BrokenProcessPool):
            raise OutputError(
                "a worker process was ended by the system, most likely for lack of memory: use fewer "
                "--workers, and --resume to go on"
            ) from failed
        if failed is not None:
            raise failed
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(options: MapOptions, load: LoadModel | None, workers: int, limits: Limits) -> None:
    """Prepare a further process: its limits, its share of the cores, and the model."""
    import os

    import torch

    set_limits(limits)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    _here["model"] = None if load is None else load(options)


def _work(job: LayerJob, options: MapOptions) -> None:
    make_layer(job, options, _here["model"])
