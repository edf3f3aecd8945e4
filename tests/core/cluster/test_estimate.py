"""What tasks that were done tell of those that are left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from domainsam.cluster.estimate import fit_pace
from domainsam.cluster.gather import move_links


def test_a_fixed_part_and_one_by_size_are_told_apart() -> None:
    pace = fit_pace([10**6, 4 * 10**6, 9 * 10**6], [5.0, 11.0, 21.0])
    assert pace is not None
    assert pace.fixed == pytest.approx(3.0)
    assert pace.each == pytest.approx(2e-6)
    assert pace.told_by == 3
    assert pace.seconds(2 * 10**6) == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("elements", "seconds", "fixed", "each"),
    [
        ([10**6], [4.0], 0.0, 4e-6),  # one alone gives the ratio
        ([10**6, 1_010_000], [4.0, 4.04], 0.0, 4e-6),  # and so do several of one size
        ([0, 0], [4.0, 6.0], 5.0, 0.0),  # sizes that no header told
        ([10**6, 2 * 10**6], [6.0, 4.0], 5.0, 0.0),  # never faster with size
        ([10**6, 2 * 10**6], [1.0, 3.0], 0.0, 1.4e-6),  # never a gift at the start
    ],
)
def test_neither_part_is_negative(
    elements: list[int], seconds: list[float], fixed: float, each: float
) -> None:
    pace = fit_pace(elements, seconds)
    assert pace is not None
    assert pace.fixed == pytest.approx(fixed, abs=1e-9)
    assert pace.each == pytest.approx(each)


def test_without_a_task_nothing_is_told() -> None:
    assert fit_pace([], []) is None


def test_links_lead_on_to_where_they_led() -> None:
    old, new = Path("/a/plan/out"), Path("/b/out")
    document: dict[str, Any] = {
        "links": [
            {"rel": "derived_from", "href": "../../in/s.tif"},
            {"rel": "derived_from", "href": "https://host/s.tif"},
        ],
        "assets": {"mask": {"href": "./s_mask.tif"}, "vsi": {"href": "/vsis3/b/s.tif"}},
    }
    move_links(document, old, new, {old / "s_mask.tif": new / "s_mask.tif"})
    assert [link["href"] for link in document["links"]] == ["../../a/in/s.tif", "https://host/s.tif"]
    assert document["assets"] == {"mask": {"href": "./s_mask.tif"}, "vsi": {"href": "/vsis3/b/s.tif"}}
