"""What goes on of outlines in one year: what parts it from its surroundings, and whether it is the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from domainsam.infer.components import EIGHT
from domainsam.prompter.contrast import Contrast, learn_contrast
from domainsam.prompter.dense import smooth_odds
from domainsam_urban.trend.read.regions import Float32, Mask, Region

LEAST_GAP = 0.45
"""Mean probability of what is found less that of its surroundings. On noise that nothing parts it is 0.15 to
0.25, for the cells above a half are chosen by it; ponds of aerial pictures have 0.47 to 0.9, and outlines of
ponds laid on dry land 0.15 to 0.45 where what is found is like a pond."""
LEVELS_TRIED = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LEAST_SAME = 0.2
"""Cosine of how an object differs from its surroundings with how it did in the year that it was drawn in, or
when it was last seen. Light, season and sensor move both together; what has become something else differs in
another way."""
CELLS_A_CHANNEL = 4
"""An outline of so many cells for each channel of features is learnt by itself: others may look otherwise
(one pond is black, another green). Of fewer cells a year of all outlines together is steadier."""


@dataclass(frozen=True, eq=False)
class Again:
    """What was found in a region.

    ``probability`` is ``(h, w)``, 0 outside; ``gap`` is its mean less that of the surroundings.
    """

    probability: Float32
    gap: float

    @property
    def inside(self) -> Mask:
        """Cells that were found."""
        return np.asarray(self.probability > 0)

    @property
    def core(self) -> Float32:
        """1 at cells that were found and are not at the edge, or of a small object at all of its cells."""
        inner = ndimage.binary_erosion(self.inside)
        return (inner if inner.any() else self.inside).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Edges:
    """What parts all outlines from their surroundings in one year, and what was found before it was learnt.

    ``first`` is of every region; ``contrast`` is None where nothing was found, else ``around`` and ``within``
    are its mean log-odds of the surroundings and of the middle.
    """

    first: tuple[Again, ...]
    contrast: Contrast | None = None
    around: float = 0.0
    within: float = 0.0


@dataclass(frozen=True, eq=False)
class Group:
    """Outlines that are learnt together in one year: their places in the list of all, and what was learnt."""

    numbers: tuple[int, ...]
    edges: Edges


def learn_groups(regions: Sequence[Region]) -> list[Group]:
    """What parts outlines from their surroundings: large ones each by itself, small ones together."""
    small: list[int] = []
    apart: list[tuple[int, ...]] = []
    for number, one in enumerate(regions):
        enough = int((one.seen & (one.share > 0)).sum()) >= CELLS_A_CHANNEL * len(one.features)
        if enough:
            apart.append((number,))
        else:
            small.append(number)
    parts = [*apart, *([tuple(small)] if small else [])]
    return [Group(part, learn_edges([regions[number] for number in part])) for part in parts]


def find_groups(regions: Sequence[Region], groups: Iterable[Group], level: float) -> list[Again]:
    """What goes on in every region, in their order; ``level`` as of :func:`find_again`."""
    found: dict[int, Again] = {}
    for group in groups:
        again = find_again([regions[number] for number in group.numbers], group.edges, level)
        found.update(zip(group.numbers, again, strict=True))
    return [found[number] for number in range(len(regions))]


def learn_edges(regions: Sequence[Region]) -> Edges:
    """What parts outlines from their surroundings in one year.

    What parts outlines from their surroundings is learnt anew in every year: cells
    of an outline that look like the surroundings now weigh less than the surroundings and fall out. It is
    learnt once more from the middle of what that finds, since an outline that fits no more blurs its edge.
    Whether anything stands out is judged by the first.
    """
    if not regions:
        return Edges(())
    contrast = learn_year(regions)
    first = tuple(keep_reached(region, contrast) for region in regions)
    if not any(found.inside.any() for found in first):
        return Edges(first)
    sure = [replace(region, share=found.core) for region, found in zip(regions, first, strict=True)]
    contrast = learn_year(sure)
    within, around = (
        float(np.mean(np.concatenate([contrast.score(one.features)[cells(one)] for one in sure])))
        for cells in (lambda one: one.seen & (one.share > 0), lambda one: one.around)
    )
    return Edges(first, contrast, around, within)


def find_again(regions: Sequence[Region], edges: Edges, level: float) -> list[Again]:
    """What goes on in every region.

    Parameters
    ----------
    edges
        As of :func:`learn_edges` of the same regions.
    level
        Where the edge lies between the surroundings' mean log-odds, 0, and those of the middle, 1.
    """
    if edges.contrast is None:
        return list(edges.first)
    moved = edges.contrast.shifted(edges.around + level * (edges.within - edges.around))
    second = [keep_reached(region, moved) for region in regions]
    return [
        replace(found, gap=min(found.gap, before.gap))
        for found, before in zip(second, edges.first, strict=True)
    ]


def find_level(regions: Sequence[Region], groups: Sequence[Group]) -> float:
    """The level at which what is found agrees best (Dice) with what was drawn."""
    drawn = sum(float(region.share.sum()) for region in regions)
    agreed = []
    for level in LEVELS_TRIED:
        found = find_groups(regions, groups, level)
        shared = sum(
            float(region.share[one.inside].sum()) for region, one in zip(regions, found, strict=True)
        )
        agreed.append(2 * shared / (drawn + sum(int(one.inside.sum()) for one in found)))
    return LEVELS_TRIED[int(np.argmax(agreed))]


def learn_year(regions: Sequence[Region]) -> Contrast:
    """What parts outlines from their surroundings in one year."""
    return learn_contrast(
        np.concatenate([region.features[:, region.learnt_from].T for region in regions]),
        np.concatenate([region.share[region.learnt_from] for region in regions]),
    )


def keep_reached(region: Region, contrast: Contrast) -> Again:
    """Parts of a region above a half that lie on the outline, as far as they may reach."""
    odds = np.where(region.seen, contrast.score(region.features), -np.inf).astype(np.float32)
    probability = smooth_odds(odds)
    alike = (probability > 0.5) & (region.away <= region.reach)
    kept = ndimage.binary_propagation((region.share > 0) & alike, EIGHT, mask=alike)
    gap = 0.0
    if kept.any() and region.around.any():
        gap = float(probability[kept].mean() - probability[region.around].mean())
    return Again(np.where(kept, probability, 0).astype(np.float32), gap)


def tell_apart(region: Region, inside: Mask) -> Float32:
    """How some cells differ from the surroundings: the difference of mean features, ``(C,)``, of length 1."""
    apart = region.features[:, inside].mean(axis=1) - region.features[:, region.around].mean(axis=1)
    length = float(np.linalg.norm(apart))
    return (apart / length if length else apart).astype(np.float32)


def is_there(region: Region, found: Again, *differed: Float32) -> bool:
    """Whether what was found in a year is the object: it stands out, and in one of the ways that it did."""
    if not found.inside.any() or not region.around.any():
        return False
    now = tell_apart(region, found.inside)
    return found.gap >= LEAST_GAP and any(float(now @ before) >= LEAST_SAME for before in differed)
