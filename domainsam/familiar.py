"""Tell whether an input is like what a model was trained on, from a few quantiles in the model file.

Training hands its samples to :func:`learn_known`, and the model file keeps
the result as the table ``[knows]`` of its header. An input is looked at in
the same way, and :func:`compare` says in words what it does not have in
common with them. Nothing here refuses anything.

What is compared is the distribution of values, of differences of neighbouring
bands (colour), and of differences of neighbouring pixels (detail). The
distance is the mean distance of the input's quantiles from the range that the
samples' quantiles span, a one-sided form of Wasserstein's distance between
two histograms, as a share of the samples' own spread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""The quantiles that are kept."""
DETAIL = "detail"
"""Name of the differences between neighbouring pixels."""
LEAST_VALUES = 100
"""Values from which quantiles are taken."""
LEAST_INSIDE = 0.02
"""Share of an input's values that must lie in the range that the network tells apart."""
LEAST_TOLERANCE = 0.15
"""A distance within this share of the samples' spread is none."""
SLACK, FEW = 1.5, 4.0
"""How much further than the oddest sample, seen from all others, an input may lie.

Of ``N`` samples it is ``SLACK * (1 + FEW / N)``: the oddest of few is not odd.
"""
STRETCH = 1.25
"""How much coarser than the coarsest of the samples' grids a grid may be."""
MOST_VALUES = 1_000_000
"""Values of a channel that are sorted; of more, every n-th is taken."""


@dataclass(frozen=True)
class Channel:
    """What the samples have in common in one quantity.

    Parameters
    ----------
    name
        A band's name, ``"A - B"`` for the difference of two bands, or ``"detail"``.
    lowest, highest
        The least and the greatest of every quantile of :data:`LEVELS` over the samples.
    spread
        Median over the samples of the distance from the 5 % to the 95 % quantile, above zero.
    tolerance
        The largest distance that is still taken as like the samples, in spreads.
    """

    name: str
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    spread: float
    tolerance: float

    def measure_distance(self, quantiles: NDArray[np.float64]) -> float:
        """Mean distance of quantiles ``(L,)`` from the samples' range, in spreads; 0 within it."""
        return float(_excess(quantiles, np.array(self.lowest), np.array(self.highest)).mean()) / self.spread


@dataclass(frozen=True)
class Known:
    """What a model has seen: the table ``[knows]`` of a model file.

    Parameters
    ----------
    channels
        Distributions of values, in the units that the network is handed before it scales them.
    samples
        How many were looked at.
    window
        Lowest and highest value that the network tells apart; only values between them are compared.
        None where all are.
    resolution, spacing
        Finest and coarsest of the samples' pixels and distances between slices, in the pack's unit
        (metres on the ground, millimetres in the body); None where not told.
    sensor
        What made the samples, in words, ``"CT"`` for instance.
    unit
        The unit of the values, for messages.
    """

    channels: tuple[Channel, ...]
    samples: int
    window: tuple[float, float] | None = None
    resolution: tuple[float, float] | None = None
    spacing: tuple[float, float] | None = None
    sensor: str = ""
    unit: str = ""

    def table(self) -> dict[str, Any]:
        """The values that JSON can hold, for the header of a model file."""
        return dict(asdict(self))


@dataclass(frozen=True)
class Doubt:
    """One reason not to rely on an answer.

    ``kind`` is one word for programs: ``values``, ``resolution`` and ``spacing`` of an input; packs
    add theirs for answers. ``text`` is a sentence for a person, ``about`` the object that it is about,
    empty where it is about all.
    """

    kind: str
    text: str
    about: str = ""


@dataclass(frozen=True)
class Judgement:
    """What is to be thought of an answer whose truth nobody knows.

    ``compared`` says whether the input could be compared with what the model
    was trained on: without that, no doubt does not mean none.
    """

    doubts: tuple[Doubt, ...] = ()
    compared: bool = False

    def __bool__(self) -> bool:
        """Whether there is a doubt."""
        return bool(self.doubts)

    def joined(self, doubts: Iterable[Doubt]) -> Judgement:
        """The same with further doubts; one that is there already is not told twice."""
        return replace(self, doubts=tuple(dict.fromkeys((*self.doubts, *doubts))))

    @property
    def texts(self) -> tuple[str, ...]:
        """The sentences."""
        return tuple(doubt.text for doubt in self.doubts)

    @property
    def line(self) -> str:
        """The verdict in a few words, empty where there is no doubt: ``doubtful: values, side``."""
        kinds = dict.fromkeys(doubt.kind for doubt in self.doubts)
        return f"doubtful: {', '.join(kinds)}" if kinds else ""

    def document(self) -> dict[str, Any]:
        """As values that JSON can hold."""
        return {
            "doubtful": bool(self.doubts),
            "compared_with_training": self.compared,
            "doubts": [asdict(doubt) for doubt in self.doubts],
        }


NOT_COMPARED = "the model file does not say what it was trained on, so nobody compared this input with it"
"""What is told where :class:`Judgement` was not compared."""


def learn_known(
    samples: Iterable[ArrayLike],
    bands: Sequence[str],
    *,
    window: tuple[float, float] | None = None,
    resolutions: Iterable[float] = (),
    spacings: Iterable[float] = (),
    sensor: str = "",
    unit: str = "",
) -> Known:
    """What the samples of a training have in common.

    Parameters
    ----------
    samples
        Arrays ``(B, ...)``, one a scene, tile or volume, at the resolution at which the network sees
        them and without augmentation; missing values are NaN. The last axis is one of space. Read one
        by one, so a generator keeps memory small.
    bands
        ``B`` names.
    window, sensor, unit
        See :class:`Known`.
    resolutions, spacings
        Pixels and distances between slices of the samples' *files*, all of them or their ends.

    Raises
    ------
    ValueError
        If no sample holds :data:`LEAST_VALUES` values, or a sample has another number of bands.
    """
    rows: dict[str, list[NDArray[np.float64]]] = {}
    count = 0
    for sample in samples:
        found = measure_quantiles(sample, bands, window)
        count += bool(found)
        for name, quantiles in found.items():
            rows.setdefault(name, []).append(quantiles)
    if not count:
        raise ValueError(f"no sample holds {LEAST_VALUES} values: nothing can be learnt of them")
    return Known(
        channels=tuple(_summarise(name, np.stack(quantiles)) for name, quantiles in rows.items()),
        samples=count,
        window=window,
        resolution=_ends(resolutions),
        spacing=_ends(spacings),
        sensor=sensor,
        unit=unit,
    )


def measure_quantiles(
    sample: ArrayLike, bands: Sequence[str], window: tuple[float, float] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Quantiles ``(L,)`` at :data:`LEVELS` of every quantity of one array ``(B, ...)``; NaN is missing.

    A quantity of fewer than :data:`LEAST_VALUES` values is left out.

    Raises
    ------
    ValueError
        If the array has another number of bands than names.
    """
    values = np.asarray(sample, dtype=np.float32)
    if values.ndim < 2 or values.shape[0] != len(bands):
        raise ValueError(f"sample of shape {values.shape}, expected ({len(bands)}, ...): {', '.join(bands)}")
    if window is not None:
        values = np.where((values > window[0]) & (values < window[1]), values, np.float32(np.nan))
    channels: dict[str, NDArray[np.float32]] = dict(zip(bands, values, strict=True))
    for one, other in pairwise(bands):
        channels[f"{one} - {other}"] = channels[one] - channels[other]
    if values.ndim > 2:
        # Not the mean of the bands that are there: where one is missing, there is no difference.
        channels[DETAIL] = np.abs(np.diff(values.mean(axis=0), axis=-1))
    found = {}
    for name, channel in channels.items():
        flat = channel[np.isfinite(channel)]
        if flat.size >= LEAST_VALUES:
            thin = flat[:: -(-flat.size // MOST_VALUES)]
            found[name] = np.quantile(thin.astype(np.float64), LEVELS)
    return found


def _summarise(name: str, rows: NDArray[np.float64]) -> Channel:
    """What rows of quantiles ``(N, L)`` span, and how far each lies from what the others span."""
    spreads = rows[:, LEVELS.index(0.95)] - rows[:, LEVELS.index(0.05)]
    # Constant samples have no spread; any small number keeps the division and calls all else far.
    spread = max(float(np.median(spreads)), 1e-6)
    tolerance = LEAST_TOLERANCE
    if len(rows) > 1:
        slack = SLACK * (1 + FEW / len(rows))
        tolerance = max(tolerance, slack * float(_leave_one_out(rows).max()) / spread)
    lowest, highest = (tuple(np.round(ends, 5).tolist()) for ends in (rows.min(axis=0), rows.max(axis=0)))
    return Channel(name, lowest, highest, round(spread, 6), round(tolerance, 4))


def _leave_one_out(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of every row of ``(N, L)`` from the range of the others, ``(N,)``."""
    order = np.sort(rows, axis=0)
    # The least of the others is the least of all, or the second where the row is itself the least.
    lowest = np.where(rows == order[0], order[1], order[0])
    highest = np.where(rows == order[-1], order[-2], order[-1])
    distance: NDArray[np.float64] = _excess(rows, lowest, highest).mean(axis=1)
    return distance


def _excess(
    values: NDArray[np.float64], lowest: NDArray[np.float64], highest: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How far values lie outside ranges; 0 within."""
    return np.asarray(np.maximum(0.0, np.maximum(lowest - values, values - highest)), dtype=np.float64)


def _ends(values: Iterable[float]) -> tuple[float, float] | None:
    held = [float(value) for value in values]
    return (min(held), max(held)) if held else None


def parse_known(table: Mapping[str, Any]) -> Known | None:
    """The table ``[knows]`` of a model file; None where it is empty or cannot be understood.

    A model is none the worse for a table that a later release wrote: it only cannot be compared.
    """
    try:
        channels = tuple(
            Channel(
                name=str(row["name"]),
                lowest=tuple(map(float, row["lowest"])),
                highest=tuple(map(float, row["highest"])),
                spread=float(row["spread"]),
                tolerance=float(row["tolerance"]),
            )
            for row in table["channels"]
        )
        if any(len(row.lowest) != len(LEVELS) or len(row.highest) != len(LEVELS) for row in channels):
            return None
        return Known(
            channels=channels,
            samples=int(table["samples"]),
            window=_pair(table.get("window")),
            resolution=_pair(table.get("resolution")),
            spacing=_pair(table.get("spacing")),
            sensor=str(table.get("sensor", "")),
            unit=str(table.get("unit", "")),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _pair(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    low, high = value
    return float(low), float(high)


def compare(
    known: Known,
    sample: ArrayLike | None = None,
    bands: Sequence[str] = (),
    *,
    resolution: float | None = None,
    spacing: float | None = None,
    unit: str = "m",
) -> tuple[Doubt, ...]:
    """What an input does not have in common with what a model was trained on; nothing where it is alike.

    Parameters
    ----------
    known
        What the model file says.
    sample
        Array ``(B, ...)`` of the input as :func:`learn_known` takes it; an overview is enough. None if
        values are not to be compared.
    bands
        ``B`` names; those that the samples lacked are passed over.
    resolution, spacing
        The file's pixel and distance between slices, in ``unit``, as :class:`Known` has them.
    """
    doubts = []
    if sample is not None:
        doubts += _compare_values(known, np.asarray(sample, dtype=np.float32), bands)
    for kind, what, value, seen in (
        ("resolution", "pixels", resolution, known.resolution),
        ("spacing", "slices", spacing, known.spacing),
    ):
        # Finer ones lose nothing: networks are handed them at the resolution that they have learnt.
        if value is not None and seen is not None and value > seen[1] * STRETCH:
            text = f"{what} of {value:.3g} {unit} are coarser than any in training ({_range(*seen)} {unit})"
            doubts.append(Doubt(kind, text))
    return tuple(doubts)


def _compare_values(known: Known, values: NDArray[np.float32], bands: Sequence[str]) -> list[Doubt]:
    if known.window is not None:
        finite = values[np.isfinite(values)]
        inside = float(np.mean((finite > known.window[0]) & (finite < known.window[1]))) if finite.size else 0
        if inside < LEAST_INSIDE:
            text = f"{inside:.1%} of the values lie in the range that the model tells apart"
            return [Doubt("values", f"only {text} ({_range(*known.window)}{_unit(known)})")]
    found = measure_quantiles(values, bands, known.window)
    odd = [
        (channel.measure_distance(found[channel.name]) / channel.tolerance, channel)
        for channel in known.channels
        if channel.name in found
    ]
    distance, channel = max(odd, key=lambda item: item[0], default=(0.0, None))
    if channel is None or distance <= 1.0:
        return []
    return [Doubt("values", _tell(channel, found[channel.name], known))]


def _tell(channel: Channel, quantiles: NDArray[np.float64], known: Known) -> str:
    """The quantile that lies furthest out, in words."""
    outside = _excess(quantiles, np.array(channel.lowest), np.array(channel.highest))
    worst = int(outside.argmax())
    value, ends = float(quantiles[worst]), (channel.lowest[worst], channel.highest[worst])
    name = "difference of neighbouring pixels" if channel.name == DETAIL else channel.name
    level = "half" if LEVELS[worst] == 0.5 else f"{LEVELS[worst]:.0%}"
    return (
        f"values are not distributed as in training: {level} of {name} lies below {value:.3g}"
        f"{_unit(known)}, in training below {_range(*ends)}"
    )


def _range(low: float, high: float) -> str:
    return f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"


def _unit(known: Known) -> str:
    return f" {known.unit}" if known.unit else ""
