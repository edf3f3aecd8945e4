"""Tell answers that no body gives: sizes, densities, sides, order from head to foot, pieces, confidence.

Bounds lie beyond disease, not at the ends of what is usual: a doubt is to be
rare and worth a look. What is usual, for adults: liver about 1.5 L (Vauthey et
al. 2002, Liver Transplantation 8:233-240, from body surface), spleen 107 to
315 mL (Prassopoulos et al. 1997, European Radiology 7:246-248), a kidney
154 +- 33 mL in women and 202 +- 36 mL in men (Cheong et al. 2007, Clinical
Journal of the American Society of Nephrology 2:38-45), pancreas 72 +- 26 mL
(Saisho et al. 2007, Clinical Anatomy 20:933-942).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from domainsam.familiar import Doubt
from domainsam_ct.measure.cleanup import Cleaned
from domainsam_ct.measure.statistics import OrganStatistics

LARGEST_ML = {"liver": 8000.0, "gallbladder": 1500.0, "pancreas": 1000.0, "aorta": 1500.0}
"""Beyond what disease makes of them."""
LARGEST_OTHER_ML = 6000.0
SMALLEST_ML = {
    **{"liver": 250.0, "spleen": 15.0, "kidney_left": 15.0, "kidney_right": 15.0},
    **{"pancreas": 8.0, "stomach": 15.0, "aorta": 5.0, "gallbladder": 0.5},
}
"""A sixth of what adults usually have, or less: shrunken organs and small children stay above most of it.

Only organs that lie wholly inside the scan are held against it.
"""
SOLID_HU = (-60.0, 350.0)
"""Mean density of solid organs: from a liver full of fat to a kidney full of contrast medium."""
SOLID = ("liver", "spleen", "kidney_left", "kidney_right", "pancreas")
LEAST_CONFIDENCE = 0.6
"""Mean probability at an organ's voxels; below, the network itself does not believe in much of it."""
RIGHT_OF = (
    *(("liver", "spleen"), ("liver", "stomach"), ("liver", "kidney_left"), ("liver", "aorta")),
    *(("gallbladder", "spleen"), ("gallbladder", "aorta"), ("kidney_right", "kidney_left")),
    *(("kidney_right", "spleen"), ("aorta", "spleen"), ("kidney_right", "aorta")),
)
"""Organs of which the first lies further to the patient's right."""
ABOVE = (
    *(("liver", "kidney_right"), ("spleen", "kidney_left"), ("liver", "urinary_bladder")),
    *(("kidney_left", "urinary_bladder"), ("kidney_right", "urinary_bladder"), ("heart", "liver")),
    *(("heart", "kidney_left"), ("heart", "kidney_right"), ("spleen", "urinary_bladder")),
    *(("stomach", "urinary_bladder"), ("liver", "prostate"), ("pancreas", "urinary_bladder")),
)
"""Organs of which the first lies nearer to the head."""
CLEARLY_MM = 15.0
"""So much further down is the wrong order: ptotic kidneys and cut organs come near to it."""
COMPARED_ML, SWAPPED = 150.0, 2.0
"""A liver of so many mL or more with less than half of the spleen's volume is a spleen: spleens have 107 to
315 mL (Prassopoulos et al. 1997), livers five to ten times as much. A network that knows usual places calls
the liver of a mirrored scan spleen. Less of a liver may be the corner that was scanned."""
SMALL_LIVER_ML, LARGEST_SPLEEN_ML = 600.0, 315.0
"""A spleen above what is usual beside a liver below the first and below its own volume tells the same; a
spleen that disease made larger than a liver leaves the liver its size."""


def find_implausible(organs: Sequence[OrganStatistics], cleaned: Cleaned | None = None) -> tuple[Doubt, ...]:
    """Reasons not to rely on organs.

    Parameters
    ----------
    organs
        All that were looked for.
    cleaned
        What clean-up took away, if it is known.
    """
    return (
        *_check_sizes(organs),
        *_check_densities(organs),
        *_check_sides(organs),
        *_check_order(organs),
        *_check_pieces(organs, cleaned or Cleaned()),
        *_check_confidence(organs),
    )


def _check_sizes(organs: Sequence[OrganStatistics]) -> list[Doubt]:
    doubts = []
    for organ in organs:
        volume = organ.volume_ml
        if volume is None:
            continue
        least = SMALLEST_ML.get(organ.name, 0.0)
        if volume > LARGEST_ML.get(organ.name, LARGEST_OTHER_ML):
            text = f"{organ.name} of {volume:.0f} mL is more than any body has: scan or mask are wrong"
            doubts.append(Doubt("size", text, organ.name))
        elif volume < least and organ.touches_border is False:
            text = (
                f"{organ.name} of {volume:.1f} mL, inside the scan, is less than bodies have ({least:g} mL "
                "or more): most of it was missed, or it is something else"
            )
            doubts.append(Doubt("size", text, organ.name))
    return doubts


def _check_densities(organs: Sequence[OrganStatistics]) -> list[Doubt]:
    low, high = SOLID_HU
    return [
        Doubt(
            "density",
            f"{organ.name} of {organ.hu.mean:.0f} HU on average is nothing that an organ has ({low:g} to "
            f"{high:g}): values of the scan or the mask are wrong",
            organ.name,
        )
        for organ in organs
        if organ.hu is not None and organ.name in SOLID and not low <= organ.hu.mean <= high
    ]


def _check_sides(organs: Sequence[OrganStatistics]) -> list[Doubt]:
    across = {organ.name: organ.centroid_mm[0] for organ in organs if organ.centroid_mm is not None}
    pairs = [(one, other) for one, other in RIGHT_OF if one in across and other in across]
    wrong = [f"{one} left of {other}" for one, other in pairs if across[one] < across[other]]
    # A network that knows usual places finds kidneys and spleen on either side; the liver's bulk tells.
    middle = _find_middle(across)
    moved = middle is not None and across.get("liver", middle) < middle
    sure = ["liver left of the middle"] if moved else []
    volumes = {organ.name: organ.volume_ml or 0.0 for organ in organs}
    liver, spleen = volumes.get("liver", 0.0), volumes.get("spleen", 0.0)
    larger = spleen > max(liver, LARGEST_SPLEEN_ML) and liver < SMALL_LIVER_ML
    if liver >= COMPARED_ML and (larger or spleen > SWAPPED * liver):
        sure.append(f"spleen of {spleen:.0f} mL beside a liver of {liver:.0f} mL")
    if not sure and (not wrong or 2 * len(wrong) < len(pairs)):
        return []
    told = ", ".join(sure + wrong[:3])
    text = (
        f"organs lie on the wrong side ({told}): the scan's left and right may be exchanged, or the "
        "patient's organs mirrored; check the header before names of sides are relied on"
    )
    return [Doubt("side", text)]


def _check_order(organs: Sequence[OrganStatistics]) -> list[Doubt]:
    """Most pairs the wrong way up: a scan upside down, or organs that are none."""
    up = {organ.name: organ.centroid_mm[2] for organ in organs if organ.centroid_mm is not None}
    pairs = [(one, other) for one, other in ABOVE if one in up and other in up]
    wrong = [f"{one} below {other}" for one, other in pairs if up[one] < up[other] - CLEARLY_MM]
    if not wrong or 2 * len(wrong) < len(pairs):
        return []
    text = (
        f"organs lie in the wrong order from head to foot ({', '.join(wrong[:3])}): the scan's head and feet "
        "may be exchanged, or what was found is something else"
    )
    return [Doubt("order", text)]


def _check_pieces(organs: Sequence[OrganStatistics], cleaned: Cleaned) -> list[Doubt]:
    """An organ is of one piece: clean-up that took more than it left did not find which."""
    return [
        Doubt(
            "pieces",
            f"{organ.name} was found in scattered parts: {cleaned.removed[organ.value]} voxels of them were "
            f"removed and {organ.voxels} kept; which is the organ is uncertain",
            organ.name,
        )
        for organ in organs
        if organ.found and cleaned.removed.get(organ.value, 0) > organ.voxels
    ]


def _check_confidence(organs: Sequence[OrganStatistics]) -> list[Doubt]:
    """The whole answer, by its voxels: single small organs are unsure in good answers too."""
    known = [organ for organ in organs if organ.found and organ.confidence is not None]
    voxels = sum(organ.voxels for organ in known)
    if not voxels:
        return []
    mean = sum(organ.voxels * (organ.confidence or 0.0) for organ in known) / voxels
    if mean >= LEAST_CONFIDENCE:
        return []
    text = f"the network gives what it found a mean probability of {mean:.2f} only: it knows nothing like it"
    return [Doubt("confidence", text)]


def _find_middle(across: Mapping[str, float]) -> float | None:
    """Where the body's middle is: half way between the kidneys, or at the aorta; None where neither is."""
    if "kidney_left" in across and "kidney_right" in across:
        return (across["kidney_left"] + across["kidney_right"]) / 2
    return across.get("aorta")
