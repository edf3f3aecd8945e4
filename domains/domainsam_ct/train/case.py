"""Labelled cases for training: axial slices, labels and spacing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from domainsam.familiar import learn_known
from domainsam.train.losses import IGNORE
from domainsam_ct.measure.gate import BANDS
from domainsam_ct.model.predict import make_slice_grid
from domainsam_ct.read.open import SAMPLED_STEP, choose_sampled

AIR = -1024
"""Hounsfield units of what lies outside a slice."""


@dataclass(frozen=True, eq=False)
class Case:
    """One labelled volume; its arrays may be files mapped into memory.

    Parameters
    ----------
    name
        For messages and scores.
    slices
        ``(S, H, W)`` int16, Hounsfield units, from the feet upwards, each
        slice as radiologists look at it.
    labels
        ``(S, H, W)`` uint8: 0 background, a class, or
        :data:`domainsam.train.losses.IGNORE` where the truth is unknown.
    spacing_mm
        Between slices, and a pixel's height and width.
    regions
        ``(S, H, W)`` uint8 structures that take up contrast agent together;
        the labels where it is None.
    """

    name: str
    slices: NDArray[np.int16]
    labels: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    regions: NDArray[np.uint8] | None = None

    @property
    def filled(self) -> NDArray[np.bool_]:
        """``(S,)``: whether a slice shows any organ."""
        shown = (self.labels > 0) & (self.labels != IGNORE)
        filled: NDArray[np.bool_] = shown.any(axis=(1, 2))
        return filled


def coarsen_case(case: Case, pixel_mm: float) -> Case:
    """The case with pixels of at least ``pixel_mm``, resampled as prediction would.

    What is coarser already stays as it is, and so does all where ``pixel_mm``
    is 0. Labels are those of the nearest pixel.
    """
    if not pixel_mm or min(case.spacing_mm[1:]) >= pixel_mm:
        return case
    size = (case.slices.shape[1], case.slices.shape[2])
    grid = make_slice_grid(size, (case.spacing_mm[1], case.spacing_mm[2]), pixel_mm, 32)
    rows, columns = (
        _nearest(have, want, step)
        for have, want, step in zip(grid.size, grid.network, grid.step, strict=True)
    )
    reduced = [
        np.round(grid.resample_inward(torch.from_numpy(part.astype(np.float32) - AIR)).numpy() + AIR).astype(
            np.int16
        )
        for part in case.slices
    ]

    def picked(values: NDArray[np.uint8], outside: int) -> NDArray[np.uint8]:
        taken = values[:, rows.clip(0)][:, :, columns.clip(0)]
        taken[:, rows < 0] = outside
        taken[:, :, columns < 0] = outside
        return taken

    return replace(
        case,
        slices=np.stack(reduced),
        labels=picked(case.labels, 0),
        spacing_mm=(case.spacing_mm[0], pixel_mm, pixel_mm),
        regions=None if case.regions is None else picked(case.regions, 0),
    )


def _nearest(have: int, want: int, step: float) -> NDArray[np.intp]:
    """Index of the pixel under each of ``want`` centres, -1 outside."""
    centres = (np.arange(want) + 0.5 - want / 2) * step + have / 2
    inside = (centres > 0) & (centres < have)
    return np.where(inside, np.floor(centres), -1).astype(np.intp)


def describe_cases(cases: Sequence[Case], window: tuple[float, float]) -> dict[str, Any]:
    """What cases have in common, for the header of the model that learnt from them.

    Their values are sampled as those of a scan are that is compared with them later.

    Parameters
    ----------
    window
        Hounsfield units that the network tells apart; only those between them are compared.
    """

    def sample(case: Case) -> NDArray[np.float32]:
        chosen = choose_sampled(len(case.slices))
        return np.asarray(case.slices[chosen, ::SAMPLED_STEP, ::SAMPLED_STEP], np.float32).reshape(1, -1)

    return learn_known(
        (sample(case) for case in cases),
        BANDS,
        window=window,
        resolutions=[float(np.sqrt(case.spacing_mm[1] * case.spacing_mm[2])) for case in cases],
        spacings=[case.spacing_mm[0] for case in cases],
        sensor="CT",
        unit="HU",
    ).table()


def find_mirror_pairs(labels: Sequence[str]) -> dict[int, int]:
    """Classes that change places in a mirror: ``kidney_left`` and ``kidney_right``."""
    where = {name: index for index, name in enumerate(labels)}
    pairs = {}
    for name, index in where.items():
        for side, other in (("left", "right"), ("right", "left")):
            twin = where.get("_".join(other if word == side else word for word in name.split("_")))
            if twin is not None and twin != index:
                pairs[index] = twin
    return pairs


@dataclass(frozen=True)
class Material:
    """The cases of a run: ``training`` are learned from, ``judged`` are not."""

    labels: tuple[str, ...]
    training: Sequence[Case]
    judged: Sequence[Case] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def signature(self) -> str:
        """Digest of labels, names, shapes and all voxels."""
        digest = hashlib.sha256(json.dumps(self.labels).encode())
        for case in (*self.training, *self.judged):
            digest.update(f"{case.name} {case.slices.shape} {case.spacing_mm}".encode())
            for part in (*case.slices, *case.labels):
                digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()
