"""Smooth every pixel over the years with a hidden Markov model.

Two states, settlement and none. Between two dates ``t`` years apart the state
changes as a continuous chain with rates ``a`` (appear) and ``v`` (vanish):

    P(settled | was not) = a / (a + v) (1 - exp(-(a + v) t))
    P(not | was settled) = v / (a + v) (1 - exp(-(a + v) t))

The networks' probability, given even odds beforehand, is the evidence of each
date; a date without data gives none. The forward-backward recursion (Rabiner
1989, equations 19 to 27) then yields every date's probability given all dates.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from domainsam.infer.blend import LEVELS, NODATA, quantise
from domainsam.io.rasters import GDAL_OPTIONS
from domainsam_urban.trend.ground import CommonGround
from domainsam_urban.trend.settings import SmoothingOptions
from domainsam_urban.trend.stack import choose_sweep_size, open_for_writing, tile_ground, to_rasterio_window

DOUBT = 0.05
"""Evidence is kept this far from 0 and 1: networks are surer of themselves than they are right."""
YEAR_SECONDS = 365.25 * 86400
FLOATS_A_PIXEL = 12
"""Bytes that smoothing holds for every stored byte."""


def compute_transitions(years: float, options: SmoothingOptions) -> tuple[float, float]:
    """Probabilities that a pixel becomes settled, and that it ceases to be, within ``years``."""
    total = options.appear + options.vanish
    if total == 0:
        return 0.0, 0.0
    changed = 1 - np.exp(-total * years)
    return float(options.appear / total * changed), float(options.vanish / total * changed)


def smooth(
    values: NDArray[np.uint8], moments: Sequence[datetime], options: SmoothingOptions
) -> NDArray[np.uint8]:
    """Stored probabilities ``(years, h, w)`` given all years; pixels without data stay without."""
    seen = values != NODATA
    evidence = np.where(seen, values / np.float32(LEVELS), np.float32(0.5)).astype(np.float32)
    np.clip(evidence, DOUBT, 1 - DOUBT, out=evidence)
    steps = [
        compute_transitions((later - earlier).total_seconds() / YEAR_SECONDS, options)
        for earlier, later in pairwise(moments)
    ]
    forward = np.empty_like(evidence)
    forward[0] = evidence[0]
    for index, (gain, loss) in enumerate(steps, start=1):
        before = forward[index - 1]
        expected = before * (1 - loss) + (1 - before) * gain
        forward[index] = _posterior(expected, evidence[index])
    answer = np.full_like(values, NODATA)
    # The likelihood of all later dates, settled over both states together.
    later = np.full(evidence.shape[1:], 0.5, np.float32)
    for index in range(len(values) - 1, -1, -1):
        known = seen[index]
        answer[index][known] = quantise(_posterior(forward[index], later))[known]
        if index:
            gain, loss = steps[index - 1]
            joint = _posterior(later, evidence[index])
            settled = (1 - loss) * joint + loss * (1 - joint)
            empty = gain * joint + (1 - gain) * (1 - joint)
            later = settled / (settled + empty)
    return answer


def smooth_layers(
    layers: Sequence[Path],
    moments: Sequence[datetime],
    targets: Sequence[Path],
    ground: CommonGround,
    options: SmoothingOptions,
) -> None:
    """Smooth layers of the ground window by window.

    Raises
    ------
    OutputError
        If a target cannot be written.
    """
    size = choose_sweep_size(len(layers) * FLOATS_A_PIXEL)
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(**GDAL_OPTIONS))
        sources = [stack.enter_context(rasterio.open(path)) for path in layers]
        outputs = [stack.enter_context(open_for_writing(path, ground)) for path in targets]
        for window in tile_ground(ground.shape, size):
            bounds = to_rasterio_window(window)
            values = np.stack([source.read(1, window=bounds) for source in sources])
            for output, smoothed in zip(outputs, smooth(values, moments, options), strict=True):
                output.write(smoothed, 1, window=bounds)


def _posterior(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Two independent probabilities of one thing, each against even odds, taken together."""
    yes = first * second
    joined: NDArray[np.float32] = (yes / (yes + (1 - first) * (1 - second))).astype(np.float32)
    return joined
