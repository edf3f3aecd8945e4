"""Outlines of one year as regions: what surrounds them, what parts them from it, and what is the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from domainsam_urban.trend.read.again import (
    Again,
    find_groups,
    is_there,
    learn_groups,
)
from domainsam_urban.trend.read.regions import Region, without_others

SIDE, CHANNELS = 40, 4


def region(
    colour: int, radius: int = 8, corner: tuple[int, int] = (0, 0), seed: int = 0, strength: float = 2.0
) -> Region:
    """A disc in the middle that differs from noise in one channel, drawn as it is."""
    rows, cols = np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5
    disc = rows**2 + cols**2 <= radius**2
    features = np.random.default_rng(seed).normal(0, 0.5, (CHANNELS, SIDE, SIDE)).astype(np.float32)
    features[colour][disc] += strength
    return Region(corner, 6.0, features, disc.astype(np.float32), np.ones((SIDE, SIDE), bool))


def test_what_is_followed_too_surrounds_nobody() -> None:
    """Two regions that share 20 columns: the disc of each lies in the surroundings of the other."""
    one, other = without_others([region(0, 5), region(1, 5, corner=(0, 20))])
    assert one.seen[20, 20]
    assert not one.seen[20, 39]
    assert not other.seen[20, 0]
    # Two cells beside its edge are left out as well.
    assert not one.seen[20, 33]
    assert one.seen[20, 31]
    assert not one.around[20, 38]
    alone = region(0, 5)
    assert without_others([alone])[0].seen.all()
    assert without_others([]) == []


def test_large_outlines_are_learnt_each_by_itself() -> None:
    """One is dark where the other is bright: no line parts both from their surroundings."""
    pair = [region(0, strength=2.0), region(0, seed=1, strength=-2.0)]
    groups = learn_groups(pair)
    assert [group.numbers for group in groups] == [(0,), (1,)]
    for one, found in zip(pair, find_groups(pair, groups, 0.5), strict=True):
        disc = one.share > 0
        assert (found.inside & disc).sum() / (found.inside | disc).sum() > 0.7
        assert found.gap > 0.45


def test_small_outlines_are_learnt_together_and_keep_their_order() -> None:
    several = [region(0, 2), region(0, 8, seed=1), region(0, 2, seed=2)]
    groups = learn_groups(several)
    assert [group.numbers for group in groups] == [(1,), (0, 2)]
    sizes = [int(found.inside.sum()) for found in find_groups(several, groups, 0.5)]
    assert sizes[1] > 4 * max(sizes[0], sizes[2])


def test_an_object_is_the_same_if_it_is_like_it_was_drawn_or_last_seen() -> None:
    one = region(0)
    found = Again(one.share * 0.9, gap=0.8)
    first, second = (np.eye(CHANNELS, dtype=np.float32)[number] for number in (0, 1))
    assert is_there(one, found, first)
    assert not is_there(one, found, second)
    assert is_there(one, found, second, first)
    assert not is_there(one, replace(found, gap=0.3), first)
    assert not is_there(one, Again(np.zeros((SIDE, SIDE), np.float32), 0.9), first)
