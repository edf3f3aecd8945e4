"""How fast foundations encode on this machine: latency, throughput, memory, share of its own ceiling."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from domainsam.errors import ConfigError, WeightsError
from domainsam.foundation import load_foundation
from domainsam.foundations import find_foundations
from domainsam.generalists import TIMES_VIT_H
from domainsam.machine import measure_peak_rss
from domainsam.protocols import Foundation

log = logging.getLogger(__name__)

REFERENCES = ("sam_vit_h", "sam_vit_b")
"""What others are compared with, where they take part."""
CEILING_SIDES = (1024, 2048)
"""Square matrices multiplied for the machine's ceiling; the faster counts."""
LEAST_RUNS = 2


@dataclass(frozen=True)
class Speed:
    """One foundation at one batch size.

    ``seconds`` is the median time of a batch; ``peak_mb`` the process's largest resident size, or the
    device's allocation; ``ceiling_share`` the share of the measured speed of matrix products;
    ``weights`` says whether the file was there (speed does not depend on the numbers in it).
    """

    foundation: str
    batch: int
    side: int
    device: str
    precision: str
    weights: str
    seconds: float
    images_per_second: float
    gmacs: float
    peak_mb: float
    ceiling_gflops: float
    ceiling_share: float


@dataclass(frozen=True)
class Plan:
    """What is measured: names, batch sizes, side of the images (None: the foundation's own), seconds each.

    ``compile`` compiles encoders, on CUDA with CUDA graphs.
    """

    names: tuple[str, ...]
    batches: tuple[int, ...]
    device: str
    precision: str
    side: int | None = None
    seconds: float = 3.0
    compile: bool = False


def measure_speed(plan: Plan, told: Callable[[Speed], None] = lambda _: None) -> list[Speed]:
    """Measure every foundation of a plan, each in a process of its own, so that its memory is its own.

    A batch that does not fit the memory is halved until it does.

    Raises
    ------
    ConfigError
        If a name is unknown, or the side is no multiple of 32.
    """
    rows = find_foundations()
    unknown = [name for name in plan.names if name not in rows]
    if unknown:
        raise ConfigError(f"no foundation is named {unknown[0]!r}; known: {', '.join(rows)}")
    if plan.side is not None and (plan.side < 32 or plan.side % 32):
        raise ConfigError(f"--side {plan.side}: expected a multiple of 32")
    found = []
    for name in plan.names:
        for batch in plan.batches:
            one = _in_own_process(name, batch, plan)
            found.append(one)
            told(one)
    return found


def _in_own_process(name: str, batch: int, plan: Plan) -> Speed:
    while True:
        try:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                return pool.submit(_measure, name, batch, plan).result()
        except (BrokenProcessPool, MemoryError, torch.OutOfMemoryError):
            if batch == 1:
                raise
            log.warning("%s: %d images at once do not fit the memory; trying %d", name, batch, batch // 2)
            batch //= 2


def _measure(name: str, batch: int, plan: Plan) -> Speed:
    dtype: torch.dtype = getattr(torch, plan.precision)
    foundation, weights = load_or_invent(name, plan.device, dtype)
    side = plan.side or foundation.image_size
    encode: Callable[[torch.Tensor], object] = foundation.encode
    if plan.compile:
        # "reduce-overhead" is torch's word for CUDA graphs; the CPU has none.
        on_cuda = torch.device(plan.device).type == "cuda"
        encode = torch.compile(encode, mode="reduce-overhead" if on_cuda else "default")
    images = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0)).to(plan.device)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            foundation.encode(images[:1])
        times = list(_time(lambda: encode(images), plan.device, plan.seconds))
    seconds = median(times)
    gmacs = counter.get_total_flops() / 2e9
    cuda = torch.device(plan.device).type == "cuda"
    peak = torch.cuda.max_memory_allocated(plan.device) / 1e6 if cuda else measure_peak_rss()
    ceiling = measure_ceiling(plan.device, dtype)
    return Speed(
        foundation=name,
        batch=batch,
        side=side,
        device=plan.device,
        precision=plan.precision,
        weights=weights,
        seconds=seconds,
        images_per_second=batch / seconds,
        gmacs=gmacs,
        peak_mb=peak,
        ceiling_gflops=ceiling,
        ceiling_share=2 * gmacs * batch / seconds / ceiling,
    )


def _time(run: Callable[[], object], device: str, seconds: float) -> Iterator[float]:
    """Times of a call, after one that does not count, until ``seconds`` have passed."""

    def finish() -> None:
        run()
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)

    finish()
    count, begin = 0, time.perf_counter()
    while count < LEAST_RUNS or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        finish()
        yield time.perf_counter() - start
        count += 1


def measure_ceiling(device: str, dtype: torch.dtype, seconds: float = 0.5) -> float:
    """GFLOP/s of large matrix products on a device: what no network can beat."""
    best = 0.0
    for side in CEILING_SIDES:
        one, other = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
        with torch.inference_mode():
            fastest = min(_time(lambda one=one, other=other: one @ other, device, seconds))  # type: ignore[misc]
        best = max(best, 2 * side**3 / fastest / 1e9)
    return best


def take_notes(names: Sequence[str]) -> tuple[str, ...]:
    """What a reader of the table has to know of some of the foundations in it."""
    if "lightening" not in names:
        return ()
    return (
        "lightening: its authors turn flash attention off at 1024 pixels, where it is slower for them; "
        "here it is torch's fused kernel, whichever it chooses",
    )


def load_or_invent(name: str, device: str, dtype: torch.dtype) -> tuple[Foundation, str]:
    """A foundation with its weights, or with random ones where its file is not here; and which of them."""
    try:
        return load_foundation(name, device, dtype), "official"
    except WeightsError:
        return invent_foundation(name, device, dtype), "random"


def invent_foundation(name: str, device: str, dtype: torch.dtype) -> Foundation:
    """A foundation of that shape with random weights.

    Raises
    ------
    WeightsError
        If it is one that cannot be made up, as another package's.
    """
    from domainsam.foundation import efficient, efficientsam, sam, sam2

    torch.manual_seed(0)
    if name in efficient.SPECS:
        spec = efficient.SPECS[name]
        points_only = name in efficientsam.SIZES
        make = efficientsam.EfficientSamFoundation if points_only else efficient.EfficientFoundation
        return make(efficient.EfficientNetwork(spec).to(device), spec, dtype)
    if name in sam.SIZES:
        size = sam.SIZES[name]
        return sam.SamFoundation(sam.SamNetwork(size).to(device), name, size.image_size, dtype)
    if "_hiera_" in name:
        return sam2.Sam2Foundation(sam2.build(name).to(device), name, dtype)
    raise WeightsError(f"{name} has no weights here, and its network is not ours to make up: give its file")


def compare(found: Sequence[Speed]) -> list[dict[str, Any]]:
    """Rows of a table: ratios to references that were given as many images at once, and the published one."""
    rows = []
    for one in found:
        row = asdict(one)
        for name in REFERENCES:
            twins = (other for other in found if other.foundation == name and other.batch == one.batch)
            twin = next((other for other in twins if other.device == one.device), None)
            row[f"times_{name}"] = None if twin is None else one.images_per_second / twin.images_per_second
        row["published_times_sam_vit_h"], row["published_on"] = TIMES_VIT_H.get(one.foundation, (None, None))
        rows.append(row)
    return rows
