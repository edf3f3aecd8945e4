"""Find how a reference sample was drawn, where its file does not say it.

A sample whose places all had the same chance, or the same within what one
year's map calls settlement and other, needs no weights: areas are estimated
within those strata anyway. One that was drawn by strata of *change* (Olofsson
et al. 2014, section 5) is denser where the map changes, and taken for even it
makes each year's area wrong, by as much as the densities differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from domainsam.grid import Float64
from domainsam_urban.trend.read.reference import Units

UNLIKELY = 1e-4
"""A sample that an even draw gives less often than this was not drawn evenly."""
UNSEEN_SHARE = 1e-3
"""A stratum of a smaller share of the ground may lack places without the sample being refused."""
MIXED_SHARE = 0.02
"""So many places may lie in another stratum of the map than their own, for maps on other grids."""


@dataclass(frozen=True, eq=False)
class Design:
    """A sample with the weights that its design asks for; ``units`` is None where they cannot be known."""

    units: Units | None
    notes: tuple[str, ...] = ()


def find_design(
    units: Units,
    labels: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    moved: Sequence[Float64],
) -> Design:
    """Weigh places by the strata of change, where the sample shows that it was drawn by them.

    Parameters
    ----------
    pairs
        Index of the earlier and later year of each compared pair.
    moved
        Of each pair, mapped hectares ``(4,)``: stayed other, became, ceased, stayed settlement.
    """
    if units.weighted or not len(units.truth) or _has_parts(units):
        return Design(units)
    chances = [_judge(units, pair, areas) for pair, areas in zip(pairs, moved, strict=True)]
    worst = int(np.argmin(chances))
    pair, areas = pairs[worst], moved[worst]
    if chances[worst] >= UNLIKELY and not _is_foreign(units, pair):
        return Design(units)
    words = f"from {labels[pair[0]]} to {labels[pair[1]]}"
    stratum, known = _strata(units, pair)
    counts = np.bincount(stratum[known], minlength=4)
    why = None
    if _is_foreign(units, pair):
        why = "its column stratum names other strata than those of what the map shows"
    elif ((counts < 2) & (areas > UNSEEN_SHARE * areas.sum())).any():
        why = f"some of the four strata of change {words} have fewer than two places looked at in both years"
    if why is not None:
        return Design(
            None,
            (
                f"the reference sample was not drawn evenly, and {why}: areas cannot be estimated from it "
                "and come from the map alone; add a column weight, the hectares that each place stands for",
            ),
        )
    weight = np.divide(areas, counts, out=np.zeros(4), where=counts > 0)
    weight /= weight[stratum[known]].mean()
    size = np.where(known[:, None, None], units.size * weight[stratum][:, None, None], 0.0)
    left = int((~known & (units.size.sum(axis=(1, 2)) > 0)).sum())
    told = f"; {left} places that were not looked at in both years are left out" if left else ""
    note = (
        f"the reference sample is denser in some of the strata of change {words} than in others: each place "
        f"stands for the mapped area of its stratum (a column weight says otherwise){told}"
    )
    return Design(replace(units, size=size, weighted=True), (note,))


def _has_parts(units: Units) -> bool:
    """Whether there are polygons: they have no one stratum of change."""
    return bool((units.size > 0).all(axis=2).any() or len(np.unique(units.size[units.size > 0])) > 1)


def _strata(units: Units, pair: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Stratum of change ``(N,)`` by the map, and whether a place was looked at and seen in both years."""
    early, late = (units.size[:, year] for year in pair)
    known = (early.sum(axis=1) > 0) & (late.sum(axis=1) > 0)
    return np.asarray(early.argmax(axis=1) * 2 + late.argmax(axis=1), dtype=np.int64), known


def _judge(units: Units, pair: tuple[int, int], areas: Float64) -> float:
    """How likely an even draw, within either year's strata, divides places by change as this one does."""
    stratum, known = _strata(units, pair)
    counts = np.bincount(stratum[known], minlength=4)
    chance = 1.0
    # Within what one year calls other, or settlement: what the other year calls it.
    for one, two in ((0, 1), (2, 3), (0, 2), (1, 3)):
        total = int(counts[one] + counts[two])
        ground = float(areas[one] + areas[two])
        if total and 0 < areas[two] < ground:
            chance = min(chance, float(binomtest(int(counts[two]), total, areas[two] / ground).pvalue))
    return chance


def _is_foreign(units: Units, pair: tuple[int, int]) -> bool:
    """Whether the strata that the file names are not unions of the map's strata of change."""
    if units.stratum is None:
        return False
    mapped, known = _strata(units, pair)
    _, named = np.unique(units.stratum[known], return_inverse=True)
    if not named.size or named.max() == 0:
        return False
    table = np.zeros((4, int(named.max()) + 1))
    np.add.at(table, (mapped[known], named), 1)
    return bool(table.sum() - table.max(axis=1).sum() > MIXED_SHARE * table.sum())
