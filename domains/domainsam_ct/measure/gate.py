"""Judge an answer whose truth nobody knows: is the scan like what the model knows, can the answer be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from domainsam.familiar import Doubt, Judgement, Known, compare
from domainsam_ct.measure.cleanup import Cleaned
from domainsam_ct.measure.plausible import find_implausible
from domainsam_ct.measure.statistics import OrganStatistics
from domainsam_ct.read.open import sample_values
from domainsam_ct.read.volume import SOFT_HU, Volume, check_histogram, check_range

BANDS = ("HU",)
"""Names of the bands under which a model file tells what its training data were like."""
LEAST_TISSUE = 1000
"""Sampled voxels of soft tissue from which their distribution says something."""
ONE_MATERIAL_HU = 75.0
"""From the 10 % to the 90 % quantile of soft tissue; fat and muscle alone lie some 150 HU apart."""


def judge_case(
    volume: Volume, organs: Sequence[OrganStatistics], cleaned: Cleaned, known: Known | None
) -> Judgement:
    """What is to be thought of a segmented scan.

    Parameters
    ----------
    volume
        The scan, open.
    organs, cleaned
        What was found in it, and what clean-up took away.
    known
        What the model file says of its training data; None if it does not.
    """
    values = sample_values(volume)
    doubts = [Doubt("values", text) for text in (*check_range(*volume.hu_range), *check_histogram(values))]
    doubts += _check_materials(values)
    if known is not None:
        across, along = float(np.sqrt(np.prod(volume.spacing[:2]))), volume.spacing[2]
        doubts += compare(known, values[None], BANDS, resolution=across, spacing=along, unit="mm")
    if not any(organ.found for organ in organs):
        doubts.append(
            Doubt("nothing", "no organ was found: is it the part of the body that the model knows?")
        )
    return Judgement(tuple(doubts), compared=known is not None).joined(find_implausible(organs, cleaned))


def _check_materials(values: NDArray[np.float32]) -> list[Doubt]:
    """Bodies hold fat and muscle; water and other phantoms hold one material in this range."""
    soft = values[(values >= SOFT_HU[0]) & (values <= SOFT_HU[1])]
    if soft.size < LEAST_TISSUE:
        return []
    low, high = np.percentile(soft, (10, 90))
    if high - low >= ONE_MATERIAL_HU:
        return []
    text = (
        f"soft tissue lies within {high - low:.0f} HU ({low:.0f} to {high:.0f}): it is of one material, and "
        "bodies hold fat and muscle; is it a phantom?"
    )
    return [Doubt("values", text)]
