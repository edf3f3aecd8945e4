"""Read mutated files one after another and print what became of each: a process of its own."""

from __future__ import annotations

import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from domainsam.errors import DomainSamError
from domainsam.limits import Limits, set_limits
from tests.fuzz.mutations import mutate
from tests.fuzz.samples import SAMPLES, Sample

HANG_SECONDS = 10
BUDGET = 300_000_000
"""Bytes that readers may take for a file's content (``--max-memory``)."""
SLACK = 300_000_000
"""What libraries take besides, once for all: modules that are loaded, GDAL's cache."""


class HangError(BaseException):
    """A reader that goes on for too long; no ``except Exception`` holds it up."""


def main(arguments: list[str]) -> None:
    """Work through mutations ``start`` to ``stop`` of a seed; ``keep`` takes files that readers choke on."""
    seed, start, stop, keep = int(arguments[0]), int(arguments[1]), int(arguments[2]), Path(arguments[3])
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    set_limits(Limits(memory=BUDGET))
    silence()
    with tempfile.TemporaryDirectory(prefix="domainsam-fuzz-") as folder:
        originals = {}
        for number in range(start, stop):
            sample = SAMPLES[number % len(SAMPLES)]
            if sample.name not in originals:
                place = Path(folder) / "originals" / plain(sample.name)
                originals[sample.name] = prepare(sample, place)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(json.dumps({"begin": number, "sample": sample.name}), file=REPORT, flush=True)
            rng = random.Random(f"{seed} {number}")
            found = try_one(sample, *originals[sample.name], rng, Path(folder), keep)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
            if grown > BUDGET + SLACK:
                found = {**found, "outcome": "memory", "told": f"{grown / 1e9:.1f} GB"}
            print(json.dumps({"number": number, "sample": sample.name, **found}), file=REPORT, flush=True)


REPORT: Any = sys.stdout


def plain(name: str) -> str:
    """A format's name without blanks, for files."""
    return name.replace(" ", "_")


def silence() -> None:
    """Keep what libraries print from C out of the report."""
    global REPORT
    REPORT = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def prepare(sample: Sample, folder: Path) -> tuple[Path, Path, str]:
    """A valid file: its folder, what the reader is given, and the digest of what it reads."""
    folder.mkdir(parents=True)
    given = sample.make(folder)
    return folder, given, sample.read(given)


def try_one(
    sample: Sample, folder: Path, given: Path, right: str, rng: random.Random, work: Path, keep: Path
) -> dict[str, Any]:
    """What becomes of one mutation."""
    copy = work / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    victim = rng.choice(sorted(path for path in copy.rglob(sample.damaged) if path.is_file()))
    victim.write_bytes(mutate(victim.read_bytes(), rng))
    begin = time.monotonic()
    told = ""
    try:
        with alarm():
            outcome = "same" if sample.read(copy / given.relative_to(folder)) == right else "read otherwise"
    except DomainSamError as error:
        outcome = "refused" if "\n" not in str(error) and str(error) else "many lines"
        told = str(error)[:200]
    except HangError:
        outcome, told = "hang", f"{HANG_SECONDS} s"
    except BaseException as error:
        outcome, told = "traceback", "".join(traceback.format_exception(error))[-1500:]
    if outcome in ("hang", "traceback", "many lines"):
        keep.mkdir(parents=True, exist_ok=True)
        shutil.copy(victim, keep / f"{plain(sample.name)}-{rng.randrange(1 << 32):08x}-{victim.name}")
    return {"outcome": outcome, "told": told, "seconds": round(time.monotonic() - begin, 3)}


@contextmanager
def alarm() -> Iterator[None]:
    """Raise :class:`HangError` after :data:`HANG_SECONDS`."""

    def ring(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    main(sys.argv[1:])
