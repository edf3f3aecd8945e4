"""Reading ahead and writing behind, so that the network never waits for the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

Job = TypeVar("Job")
Answer = TypeVar("Answer")

WRITES_IN_FLIGHT = 2
"""One being written while the next is prepared; more would only hold memory."""


class ReadAhead:
    """Runs jobs in threads, some ahead of the consumer, and yields answers in the order of the jobs.

    Parameters
    ----------
    workers
        Number of threads; the answers and their order do not depend on it.
    depth
        Most jobs that are running or waiting to be consumed.
    """

    def __init__(self, workers: int, depth: int) -> None:
        self._pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="read")
        self._depth = max(1, depth)

    def map(self, work: Callable[[Job], Answer], jobs: Iterable[Job]) -> Iterator[Answer]:
        """Answers of ``work`` for every job, in order; an exception surfaces at its job's turn."""
        waiting: deque[Future[Answer]] = deque()
        for job in jobs:
            waiting.append(self._pool.submit(work, job))
            if len(waiting) >= self._depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class WriteBehind:
    """Runs writes one after another in a thread of its own.

    A failed write surfaces at the next :meth:`submit` or on leaving; no later
    write is started then, so what a journal says is done stays true.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._pending: deque[Future[None]] = deque()
        self._failed = False

    def submit(self, write: Callable[..., None], *arguments: Any) -> None:
        """Queue a write; waits while too many are queued."""
        while len(self._pending) >= WRITES_IN_FLIGHT:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._run, write, arguments))

    def _run(self, write: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self._failed:
            return
        try:
            write(*arguments)
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while kind is None and self._pending:
                self._pending.popleft().result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
