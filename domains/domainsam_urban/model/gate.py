"""Judge a map whose truth nobody knows: is the scene like what the model knows, can the answer be."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from domainsam.familiar import Doubt, Judgement, Known, compare
from domainsam_urban.read.looks import BANDS, sample_scene
from domainsam_urban.read.scene import RasterSource

COARSE = 2.0
"""A pixel coarser than the learnt one by more shows less of a settlement than the model relies on."""
LARGE_HA = 300.0
"""Ground of this size that is almost all settlement is more than the largest known.

Kibera in Nairobi, often called Africa's largest informal settlement, has about 225 ha (Desgroppes and
Taupin 2011, "Kibera: the biggest slum in Africa?", East African Review 44:23-33).
"""
MOST_SETTLED = 0.7
LEAST_CONFIDENCE = 0.6
"""Mean probability inside the outlines, by their area; the threshold is commonly 0.5."""


def judge_scene(source: RasterSource, known: Known | None, learnt: float | None) -> Judgement:
    """What is to be thought of a scene that a model is to map.

    Parameters
    ----------
    known
        What the model file says of its training scenes; None if it does not.
    learnt
        Ground pixel in metres that the model was trained at, if it says.
    """
    ground = source.profile_info.ground_pixel
    pixel = None if ground is None else math.sqrt(ground[0] * ground[1])
    doubts: tuple[Doubt, ...] = ()
    if known is not None:
        doubts = compare(known, sample_scene(source), BANDS, resolution=pixel)
    told = any(doubt.kind == "resolution" for doubt in doubts)
    if not told and pixel is not None and learnt is not None and pixel > COARSE * learnt:
        text = f"pixels of {pixel:.3g} m are {pixel / learnt:.1f} times as coarse as the model has learnt"
        doubts = (*doubts, Doubt("resolution", text))
    return Judgement(doubts, compared=known is not None)


def judge_answer(areas_ha: ArrayLike, confidence: ArrayLike, seen_ha: float) -> tuple[Doubt, ...]:
    """Reasons not to rely on what was found.

    Parameters
    ----------
    areas_ha, confidence
        Of every outline: hectares, and mean probability inside (NaN where not known).
    seen_ha
        Hectares of the scene that have data; NaN without a CRS.
    """
    areas, sure = np.asarray(areas_ha, np.float64), np.asarray(confidence, np.float64)
    doubts = []
    share = float(areas.sum()) / seen_ha if seen_ha > 0 else 0.0
    if seen_ha > LARGE_HA and share > MOST_SETTLED:
        text = (
            f"{share:.0%} of {seen_ha:.0f} ha would be informal settlement, more than in any place known: "
            "the scene or the threshold may be wrong"
        )
        doubts.append(Doubt("share", text))
    told = np.isfinite(sure) & (areas > 0)
    if told.any():
        mean = float(np.average(sure[told], weights=areas[told]))
        if mean < LEAST_CONFIDENCE:
            text = f"the model gives what it found a mean probability of {mean:.2f} only: it is unsure of it"
            doubts.append(Doubt("confidence", text))
    return tuple(doubts)
