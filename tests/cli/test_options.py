"""Lists as option values: what they become, and what is refused with which words."""

from __future__ import annotations

import click
import pytest

from domainsam_cli.options import NAMES, WHOLE_NUMBERS, Separated

WINDOW = Separated(float, "a pair of numbers", "-125,275", "LOW,HIGH", 2)


def test_parts_become_a_tuple() -> None:
    assert WHOLE_NUMBERS.convert("3, 2,1", None, None) == (3, 2, 1)
    assert NAMES.convert("left kidney,spleen", None, None) == ("left kidney", "spleen")
    assert WINDOW.convert("-125,275", None, None) == (-125.0, 275.0)
    assert WINDOW.convert((1.0, 2.0), None, None) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (WHOLE_NUMBERS, "3,b", "'3,b' is not a list of whole numbers such as 3,2,1"),
        (NAMES, "liver,,spleen", "is not a list of names such as liver,spleen"),
        (NAMES, "", "'' is not a list"),
        (WINDOW, "1", "is not a pair of numbers such as -125,275"),
        (WINDOW, "1,2,3", "is not a pair"),
    ],
)
def test_something_else_is_refused(kind: Separated, value: str, words: str) -> None:
    with pytest.raises(click.BadParameter, match=words):
        kind.convert(value, None, None)
