"""Folds of the organ model's recipe, and that the ladder beside it learns as it does."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from domainsam_ct.train.recipe import SplitOptions, read_recipe
from recipes.ct import train
from recipes.ct.btcv import SLICES
from recipes.ct.train import choose_left_out, read_fold

NAMES = [f"case{number:04d}" for number in SLICES]


def test_sixths_hold_every_subject_once_and_two_of_them_are_a_third() -> None:
    sixths = [choose_left_out(NAMES, SplitOptions(6, fold)) for fold in range(6)]
    assert sorted(name for part in sixths for name in part) == NAMES
    assert {len(part) for part in sixths} == {3}
    # The third that chose settings is no part of the four sixths that figures are told of.
    assert sixths[0] | sixths[3] == choose_left_out(NAMES, SplitOptions(3, 0))
    assert choose_left_out(NAMES, None) == frozenset()


def test_a_fold_is_named_by_its_number_and_how_many_there_are() -> None:
    assert read_fold("1/6") == SplitOptions(6, 1)


@pytest.mark.parametrize("given", ["6/6", "0/1", "0/0", "1", "-1/6", "a/b", ""])
def test_what_is_no_fold_is_refused(given: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no fold: expected K/N"):
        read_fold(given)


def test_the_ladder_learns_as_the_specialist_that_it_is_compared_with() -> None:
    ladder = read_recipe(Path(train.__file__).with_name("ladder.toml"))
    specialist = read_recipe(Path("abdomen"))
    assert (ladder.model.network.method, specialist.model.network.method) == ("ladder", "specialist")
    for name in ("augment", "loss", "crop", "crop_rows", "batch_size", "empty_share", "repeat", "split"):
        assert getattr(ladder, name) == getattr(specialist, name), name
    assert ladder.model.pixel_mm == specialist.model.pixel_mm
    assert ladder.optimisation.lr == specialist.optimisation.lr
