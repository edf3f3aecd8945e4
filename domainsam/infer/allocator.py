"""Freed memory kept for the next tile, where the C library is glibc.

Networks ask for buffers of many megabytes and free them again with every
layer. glibc hands such buffers back to the system each time, and the system
clears every page when it is touched anew: a third of pass one's time on a CPU.
"""

from __future__ import annotations

import ctypes
import os
import platform

SWITCH = "DOMAINSAM_KEEP_MEMORY"
"""Environment variable; ``0`` leaves the allocator as it is."""
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
KEPT_BYTES = 2_000_000_000
"""Free memory at the heap's end beyond this goes back to the system. The limit is an ``int``."""


def keep_freed_memory() -> bool:
    """Tell the allocator of this process to keep freed buffers; whether it agreed.

    Holds until the process ends and costs the gaps between buffers, some
    0.2 GB with the usual tiles. Does nothing outside glibc, or with
    :data:`SWITCH` set to ``0``.
    """
    if os.environ.get(SWITCH) == "0" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    # Large buffers come from the heap instead of mappings of their own, and the heap stays large.
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
