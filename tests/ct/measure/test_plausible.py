"""Scans and organs that make no sense, and are told although their headers say nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from domainsam_ct.generated import draw_abdomen, make_centred_affine
from domainsam_ct.measure.plausible import find_implausible
from domainsam_ct.measure.statistics import OrganStatistics
from domainsam_ct.read.open import open_volume
from tests.ct.made import write_nifti

SHAPE, SPACING = (128, 96, 12), (2.8, 2.8, 6.0)


@pytest.mark.parametrize(
    ("shift", "words"), [(1024, "1024 too high"), (-1024, "1024 too low"), (0, ""), (-40, ""), (60, "")]
)
def test_values_are_judged_by_where_they_lie(tmp_path: Path, shift: int, words: str) -> None:
    hu = draw_abdomen(SHAPE, SPACING)[0] + np.int16(shift)
    affine = make_centred_affine(SHAPE, SPACING)
    with open_volume(write_nifti(tmp_path / "ct.nii.gz", hu, affine)) as volume:
        told = " ".join(volume.warnings)
    assert words in told
    assert bool(words) == bool(told)


def organ(name: str, x: float, ml: float = 100.0) -> OrganStatistics:
    return OrganStatistics(name, 1, 10, volume_ml=ml, centroid_mm=(x, 0.0, 0.0))


def check_plausible(organs: list[OrganStatistics]) -> tuple[str, ...]:
    """What is told of organs."""
    return tuple(doubt.text for doubt in find_implausible(organs))


USUAL = {"liver": 70.0, "kidney_right": 60.0, "aorta": -5.0, "stomach": -50.0, "spleen": -90.0}


def test_exchanged_sides_are_told() -> None:
    assert check_plausible([organ(name, x) for name, x in USUAL.items()]) == ()
    (note,) = check_plausible([organ(name, -x) for name, x in USUAL.items()])
    assert "wrong side" in note
    assert "liver left of spleen" in note


def test_a_liver_that_is_called_spleen_is_told() -> None:
    """What a network that knows usual places makes of a mirrored scan."""
    (told,) = check_plausible([organ("liver", 30.0, 268.0), organ("spleen", -70.0, 736.0)])
    assert "wrong side (spleen of 736 mL beside a liver of 268 mL)" in told
    (told,) = check_plausible([organ("liver", 82.0, 388.0), organ("spleen", -85.0, 672.0)])
    assert "wrong side (spleen of 672 mL beside a liver of 388 mL)" in told
    assert check_plausible([organ("liver", 60.0, 200.0), organ("spleen", -70.0, 300.0)]) == ()
    assert check_plausible([organ("liver", 30.0, 20.0), organ("spleen", -70.0, 180.0)]) == ()
    assert check_plausible([organ("liver", 30.0, 1100.0), organ("spleen", -70.0, 1500.0)]) == ()


def test_a_mirrored_scan_as_a_network_sees_it() -> None:
    """What the model inside the package makes of a real scan that was mirrored."""
    seen = {
        **{"spleen": -86.0, "kidney_right": 88.0, "kidney_left": -62.0, "liver": -9.0, "stomach": 0.0},
        **{"aorta": -1.0, "pancreas": -3.0},
    }
    (note,) = check_plausible([organ(name, x) for name, x in seen.items()])
    assert "liver left of the middle" in note
    honest = {
        **{"spleen": -113.0, "kidney_right": 70.0, "kidney_left": -78.0, "liver": 67.0, "stomach": -41.0},
        "aorta": -21.0,
    }
    assert check_plausible([organ(name, x) for name, x in honest.items()]) == ()


def test_one_odd_organ_is_no_exchange() -> None:
    assert check_plausible([organ(name, x) for name, x in {**USUAL, "stomach": 90.0}.items()]) == ()


def test_organs_that_no_body_has() -> None:
    (note,) = check_plausible([organ("liver", 70.0, 17924.0)])
    assert note.startswith("liver of 17924 mL")
    assert check_plausible([organ("liver", 70.0, 3500.0), OrganStatistics("spleen", 1, 0)]) == ()
