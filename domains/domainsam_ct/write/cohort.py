"""Write what is about all cases of a run: a table with a row a case, and figures with a row an organ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from domainsam.metrics.tables import csv_text
from domainsam.staging import Staging
from domainsam_ct.job import COHORT_FIGURES, COHORT_TABLE, DICOM_KINDS, NOTICE, CasePlan
from domainsam_ct.labels import LabelMap
from domainsam_ct.measure.statistics import format_cell
from domainsam_ct.write.figures import CaseRecord, FiguresWriter

FIGURES = ("volume_ml", "model_dice", "hu_mean", "touches_border", "confidence")
"""What the table tells of each organ; the rest is in the figures, and in the case's own statistics."""
NOT_DONE = "was not done"


def write_tables(
    plans: Sequence[CasePlan], labels: LabelMap, failures: Sequence[tuple[str, str]]
) -> dict[str, Path]:
    """Write table and figures of all cases, those of earlier runs included; returns their paths.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    folder = plans[0].side["labels"].parent
    table, figures = folder / COHORT_TABLE, folder / COHORT_FIGURES
    rows: list[dict[str, Any]] = []

    def write(path: Path) -> None:
        with FiguresWriter(path, [organ.name for organ in labels.values()], NOTICE) as writer:
            for record in read_records(plans, failures):
                rows.append(make_case_row(record, labels))
                writer.add(record)

    # They belong to the run, not to a case: a new run replaces them.
    with Staging([table, figures], overwrite=True) as staging:
        staging.write_with(figures, write)
        staging.write_text(table, csv_text(rows))
    return {"table": table, "figures": figures}


def read_records(plans: Sequence[CasePlan], failures: Sequence[tuple[str, str]]) -> Iterator[CaseRecord]:
    """What became of every case, in order, by its files."""
    reasons = dict(failures)
    for plan in plans:
        reason = reasons.get(plan.stem)
        done = reason is None and plan.complete
        kept = done or (reason is not None and plan.without([*DICOM_KINDS, "preview", "report"]).complete)
        document = json.loads(plan.side["statistics"].read_text(encoding="utf-8")) if kept else {}
        yield CaseRecord(plan.stem, done, "" if done else reason or NOT_DONE, document)


def make_case_row(record: CaseRecord, labels: LabelMap) -> dict[str, Any]:
    """One row: what became of the case, and its organs in figures."""
    document = record.document
    row: dict[str, Any] = {
        "case": record.case,
        "status": record.status,
        "error": record.error,
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
