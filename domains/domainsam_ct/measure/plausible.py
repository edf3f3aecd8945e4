"""Tell organs that no body has: too large, or on the wrong side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from domainsam_ct.measure.statistics import OrganStatistics

LARGEST_ML = {"liver": 8000.0, "gallbladder": 1500.0, "pancreas": 1000.0, "aorta": 1500.0}
"""Beyond what disease makes of them."""
LARGEST_OTHER_ML = 6000.0
RIGHT_OF = (
    *(("liver", "spleen"), ("liver", "stomach"), ("liver", "kidney_left"), ("liver", "aorta")),
    *(("gallbladder", "spleen"), ("gallbladder", "aorta"), ("kidney_right", "kidney_left")),
    *(("kidney_right", "spleen"), ("aorta", "spleen"), ("kidney_right", "aorta")),
)
"""Organs of which the first lies further to the patient's right."""


def check_plausible(organs: Sequence[OrganStatistics]) -> tuple[str, ...]:
    """What a person should know of organs whose size or place is that of no usual body."""
    return (*_check_sizes(organs), *_check_sides(organs))


def _check_sizes(organs: Sequence[OrganStatistics]) -> list[str]:
    return [
        f"{organ.name} of {organ.volume_ml:.0f} mL is more than any body has: scan or mask are wrong"
        for organ in organs
        if organ.volume_ml is not None and organ.volume_ml > LARGEST_ML.get(organ.name, LARGEST_OTHER_ML)
    ]


def _check_sides(organs: Sequence[OrganStatistics]) -> list[str]:
    across = {organ.name: organ.centroid_mm[0] for organ in organs if organ.centroid_mm is not None}
    pairs = [(one, other) for one, other in RIGHT_OF if one in across and other in across]
    wrong = [f"{one} left of {other}" for one, other in pairs if across[one] < across[other]]
    # A network that knows usual places finds kidneys and spleen on either side; the liver's bulk tells.
    middle = _find_middle(across)
    moved = middle is not None and across.get("liver", middle) < middle
    if not moved and (not wrong or 2 * len(wrong) < len(pairs)):
        return []
    told = ", ".join((["liver left of the middle"] if moved else []) + wrong[:3])
    return [
        f"organs lie on the wrong side ({told}): the scan's left and right may be exchanged, or the "
        "patient's organs mirrored; check the header before names of sides are relied on"
    ]


def _find_middle(across: Mapping[str, float]) -> float | None:
    """Where the body's middle is: half way between the kidneys, or at the aorta; None where neither is."""
    if "kidney_left" in across and "kidney_right" in across:
        return (across["kidney_left"] + across["kidney_right"]) / 2
    return across.get("aorta")
