"""What Dask's workers do of a job: the plugin that loads the model once, and inputs one after another."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from distributed import WorkerPlugin, get_worker

from domainsam.errors import ConfigError, DomainSamError, InputError, OutputError, explain
from domainsam.infer.executor import Outcome, Tasks
from domainsam.infer.workroom import TakenError, tidy_room
from domainsam.licences import collect_notices
from domainsam.limits import Limits, set_limits
from domainsam.network import lock_process

log = logging.getLogger(__name__)

PATIENCE_S, PAUSE_S = 900.0, 1.0
"""Seconds that a worker waits for another run to let go of an input, and between looks."""


class FailedError(Exception):
    """A failure on a worker that another try may cure; Dask repeats the task on it."""


@dataclass(frozen=True)
class Packed:
    """An input on its way to a worker.

    Parameters
    ----------
    index
        Its number.
    plan
        Its plan, pickled: a scheduler need not know what it is.
    fresh
        Whether none of its files was there when the run began: where all are there later, an earlier try
        has made them.
    """

    index: int
    plan: bytes
    fresh: bool


class UnfitError(FailedError):
    """A worker cannot load what the job needs: no input is to blame, and every other would fail there."""


class TaskPlugin(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """What a worker needs for a job: how the model is loaded, and where the client ran.

    Parameters
    ----------
    tasks
        Those of the job; their plans are not sent with it.
    """

    def __init__(self, tasks: Tasks, folder: str, limits: Limits) -> None:
        self.tasks, self.folder, self.limits = replace(tasks, plans=()), folder, limits
        self._run: Callable[[Any], Any] | None = None
        self._notices: dict[str, None] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_run": None, "_notices": {}}

    def setup(self, worker: Any) -> None:
        """Called by Dask on every worker, those that join later too."""
        if not self.limits.network:
            lock_process()

    def do(self, packed: Packed) -> Outcome:
        """Do an input.

        Raises
        ------
        FailedError
            If it failed in a way that another try may cure.
        """
        begin = time.perf_counter()
        plan = pickle.loads(packed.plan)
        where = f"{socket.gethostname()}:{os.getpid()}"
        failure: FailedError | None = None
        notices: list[str] = []
        try:
            self._enter()
            # The client tells what weights may be used for: it would be told by every worker.
            with collect_notices(notices):
                done = self._finish(packed, plan)
        except (InputError, ConfigError) as error:
            done = Outcome(packed.index, error=plain_error(error))
        except UnfitError as error:
            failure = UnfitError(str(error))
        except Exception as error:
            log.debug("%s", self.tasks.name(plan), exc_info=error)
            failure = FailedError(explain(error)[0])
        # Raised out here: Dask would send along what it came from, which our classes do not survive.
        if failure is not None:
            raise failure
        self._notices.update(dict.fromkeys(notices))
        told = tuple(self._notices)
        return replace(done, seconds=time.perf_counter() - begin, worker=where, notices=told)

    def _enter(self) -> None:
        """Take the client's folder, to which paths are relative, and its limits."""
        set_limits(self.limits)
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise OutputError(
                f"worker on {socket.gethostname()} has no folder '{self.folder}' ({error.strerror}): start "
                "workers where they see the folder that the command is run in"
            ) from error

    def _finish(self, packed: Packed, plan: Any) -> Outcome:
        """Do an input unless it is done, waiting for another run that may be at it."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            if packed.fresh and plan.complete:
                tidy_room(plan.work)
                return Outcome(packed.index, complete=True)
            run = self._run = self._run or self._prepare()
            try:
                return Outcome(packed.index, run(plan))
            except TakenError:
                # A client that was killed leaves the inputs in the hands of workers, which finish them.
                if time.monotonic() > give_up:
                    raise
                pause(PAUSE_S)

    def _prepare(self) -> Callable[[Any], Any]:
        """Load the model, the first time."""
        try:
            return self.tasks.prepare()
        except Exception as error:
            raise UnfitError(f"{socket.gethostname()}:{os.getpid()}: {explain(error)[0]}") from None


def pause(seconds: float) -> None:
    """Wait; other tasks of the worker do too, for it has one thread."""
    time.sleep(seconds)


def plain_error(error: Exception) -> Exception:
    """An error that can be sent: of our own classes as it is, with its line alone."""
    line, _ = explain(error)
    kind = type(error) if isinstance(error, DomainSamError) else InputError
    return kind(line)


def do_task(packed: Packed, plugin: str) -> Outcome:
    """Do an input on the worker that this is called on."""
    task: TaskPlugin = get_worker().plugins[plugin]
    return task.do(packed)
