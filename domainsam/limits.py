"""What a run may do and take: memory, the network, and whether its outputs tell of the clock.

The limits belong to the process. The command line sets them from its options,
:func:`domainsam.run` from its keywords; readers ask here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from domainsam.errors import ConfigError, InputError

Changing = TypeVar("Changing")

SHARE = 0.5
"""Part of the machine's memory that one file's content may take where nobody says otherwise."""
LEAST_BYTES = 1 << 28
"""What is smaller is not worth a question."""
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux tells what a container may take, versions 2 and 1."""


@dataclass(frozen=True)
class Limits:
    """What is allowed.

    Parameters
    ----------
    memory
        Bytes that the content of one input may take; None for :data:`SHARE` of the machine's.
    network
        Whether an input may name addresses that are then opened.
    reproducible
        Whether outputs leave out what differs from run to run: seconds, memory, the date.
    """

    memory: int | None = None
    network: bool = False
    reproducible: bool = False


_now = Limits()


def get_limits() -> Limits:
    """The limits of this process."""
    return _now


def set_limits(limits: Limits) -> None:
    """Set the limits of this process, for all of its threads."""
    global _now
    _now = limits


@contextmanager
def limited(
    memory: int | str | None = None, network: bool | None = None, reproducible: bool | None = None
) -> Iterator[None]:
    """Other limits within a ``with`` block; None leaves one as it is.

    Raises
    ------
    ConfigError
        If ``memory`` is no size.
    """
    before = get_limits()
    set_limits(
        replace(
            before,
            memory=before.memory if memory is None else parse_size(memory),
            network=before.network if network is None else network,
            reproducible=before.reproducible if reproducible is None else reproducible,
        )
    )
    try:
        yield
    finally:
        set_limits(before)


def parse_size(given: int | str, option: str = "--max-memory") -> int:
    """Bytes of a size such as ``8G``, ``500M`` or a number of bytes (powers of 1000).

    Raises
    ------
    ConfigError
        If it is none.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?)B?", str(given).strip(), re.IGNORECASE)
    size = int(float(found[1]) * UNITS[found[2].upper()]) if found else 0
    if not size:
        raise ConfigError(f"{option} {given!r} is no size: give for example 8G or 500M")
    return size


def find_budget() -> int:
    """Bytes that one input's content may take."""
    if _now.memory is not None:
        return _now.memory
    return max(LEAST_BYTES, int(SHARE * measure_machine()))


def measure_machine() -> int:
    """Bytes of memory that this process could have: the machine's, or its container's if that is less."""
    sizes = []
    with suppress(AttributeError, ValueError, OSError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in CGROUPS:
        with suppress(OSError, ValueError):
            sizes.append(int(path.read_text().strip()))
    # Systems that do not tell are taken for small ones.
    return min(sizes, default=8 * 10**9)


def require_memory(name: object, needed: int, what: str) -> None:
    """Refuse what would take more memory than the budget, before any of it is read.

    Parameters
    ----------
    name
        The file, for the message.
    needed
        Bytes at the peak.
    what
        What its header says there is: ``"100000 x 100000 pixels"``.

    Raises
    ------
    InputError
        If ``needed`` is above :func:`find_budget`.
    """
    budget = find_budget()
    if needed > budget:
        raise InputError(
            f"{name}: its header says {what}, which takes about {format_bytes(needed)} of memory; the limit "
            f"is {format_bytes(budget)}: give a smaller part of it, or allow more with "
            f"--max-memory {max(1, -(-needed // 10**9))}G"
        )


def tell_changing(value: Changing) -> Changing | None:
    """What differs from run to run, such as seconds; None where outputs are to be reproducible."""
    return None if _now.reproducible else value


def is_reproducible() -> bool:
    """Whether two runs of the same work are to write the same bytes."""
    return _now.reproducible


def tell_moment() -> datetime:
    """The time in UTC; where outputs are to be reproducible that of ``SOURCE_DATE_EPOCH``, else of 1970.

    See https://reproducible-builds.org/specs/source-date-epoch, which wants a malformed value refused.

    Raises
    ------
    ConfigError
        If ``SOURCE_DATE_EPOCH`` is no such number.
    """
    if not _now.reproducible:
        return datetime.now(UTC)
    stated = os.environ.get("SOURCE_DATE_EPOCH", "0")
    try:
        return datetime.fromtimestamp(int(stated), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(
            f"SOURCE_DATE_EPOCH is {stated[:40]!r}, expected seconds since 1970: set it anew or unset it"
        ) from error


def format_bytes(count: int) -> str:
    """A size as people write it: ``2.1 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 10**8 else f"{count / 1e6:.1f} MB"
