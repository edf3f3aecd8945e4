"""Write the table of all cases of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from domainsam.metrics.tables import csv_text
from domainsam.staging import Staging
from domainsam_ct.job import COHORT_TABLE, DICOM_KINDS, CasePlan
from domainsam_ct.labels import LabelMap
from domainsam_ct.measure.statistics import format_cell
from domainsam_ct.settings import SegmentOptions

FIGURES = ("volume_ml", "model_dice", "hu_mean", "touches_border", "confidence")
"""What the table tells of each organ; the rest is in the case's own statistics."""


def write_table(
    plans: Sequence[CasePlan],
    failures: Sequence[tuple[str, str]],
    labels: LabelMap,
    options: SegmentOptions,
) -> Path:
    """Write the table of all cases, those of earlier runs included; returns its path.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = find_table_path(plans)
    reasons = dict(failures)
    rows = [make_case_row(plan, reasons.get(plan.stem), labels) for plan in plans]
    # The table belongs to the run, not to a case: a new run replaces it.
    with Staging([path], overwrite=True) as staging:
        staging.write_text(path, csv_text(rows))
    return path


def find_table_path(plans: Sequence[CasePlan]) -> Path:
    """Beside the first case's side files."""
    return plans[0].side["labels"].parent / COHORT_TABLE


def make_case_row(plan: CasePlan, reason: str | None, labels: LabelMap) -> dict[str, Any]:
    """One row: what became of the case, and its organs in figures."""
    done = reason is None and plan.complete
    kept = done or (reason is not None and plan.without([*DICOM_KINDS, "preview", "report"]).complete)
    document = json.loads(plan.side["statistics"].read_text(encoding="utf-8")) if kept else {}
    row: dict[str, Any] = {
        "case": plan.stem,
        "status": "done" if done else "failed",
        "error": reason or "",
        "slices": document.get("slices", ""),
        "seconds": document.get("seconds", ""),
        "warnings": "; ".join(document.get("warnings", ())),
        "doubtful": int(document["judgement"]["doubtful"]) if "judgement" in document else "",
    }
    organs = document.get("organs", {})
    for organ in labels.values():
        figures = organs.get(organ.name, {})
        flat = {**figures, "hu_mean": (figures.get("hu") or {}).get("mean")}
        for figure in FIGURES:
            row[f"{organ.name}_{figure}"] = format_cell(flat.get(figure))
    return row
