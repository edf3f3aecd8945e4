"""A file held open by its descriptor, for reads and writes that the system orders and syncs."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self


class OpenFile:
    """Owns a descriptor and closes it once; a context manager."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        """Close the file, which stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
