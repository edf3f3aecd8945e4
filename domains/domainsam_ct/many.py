"""``ct segment`` as a job whose cases can be spread; see :mod:`domainsam.infer.many`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from domainsam.errors import ConfigError, DomainSamError
from domainsam.infer.many import Entry, ManyJob, Size, WorkList
from domainsam_ct.job import CasePlan, CaseResult
from domainsam_ct.model.sweep import STAGED_BYTES
from domainsam_ct.read.cohort import list_cases
from domainsam_ct.read.volume import NIFTI_NAMES
from domainsam_ct.run import segment_options
from domainsam_ct.segment import CLEAN_BYTES, MASK_BYTES, list_work, name_entries

VOXEL_BYTES = 2
"""Of a voxel as scanners store it; what a compressed file is taken for where its header was not read."""
PACKED = 3
"""About as many times as a CT shrinks by compression (lossless, 2 to 4)."""


def list_entries(
    inputs: Sequence[str], options: Mapping[str, Any]
) -> tuple[tuple[Entry, ...], dict[str, Any]]:
    """The cases of all inputs, each with its name, and the options.

    Raises
    ------
    DomainSamError
        If a table cannot be read, or an option is impossible.
    """
    if segment_options(**options).marks:
        raise ConfigError("marks belong to one scan: segment it by itself")
    return name_entries(list_cases([Path(given) for given in inputs])), dict(options)


def open_work(
    entries: Sequence[Entry], options: Mapping[str, Any], total: int
) -> WorkList[CasePlan, CaseResult]:
    """What is done with cases that are some of ``total``.

    Raises
    ------
    DomainSamError
        If outputs clash, or the model cannot be used.
    """
    return list_work(entries, segment_options(**options), total=total)


def measure_case(entry: Entry, options: Mapping[str, Any]) -> Size:
    """What segmenting a case takes: by its header where that is small, else by the bytes of its files."""
    path = Path(entry.source)
    voxels = size = 0
    with suppress(DomainSamError, OSError):
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        voxels = _count_voxels(path) or size // VOXEL_BYTES * (PACKED if _is_packed(path) else 1)
    return Size(voxels, size, voxels * MASK_BYTES, voxels * (STAGED_BYTES + CLEAN_BYTES + MASK_BYTES))


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith((".gz", ".zip"))


def _count_voxels(path: Path) -> int:
    """Voxels of a NIfTI file by its header, 0 for others."""
    if not path.name.lower().endswith(NIFTI_NAMES):
        return 0
    import nibabel

    try:
        return math.prod(nibabel.load(path).shape[:3])
    except Exception:
        # Whatever is wrong with it, its run says.
        return 0


JOB = ManyJob("segment", list_entries, open_work, measure_case)
