"""Write the figures of all organs of all cases as one Parquet file, a row an organ.

Columns have the names and units of a case's own table (``_statistics.csv``), types instead of text, and
all digits instead of three decimals. What is not known is null. Seconds are left out, so that the same
answers are the same bytes, whoever did the cases and in whichever order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
from pyarrow import parquet

import domainsam
from domainsam.names import show
from domainsam_ct.job import UNITS

GROUP = 65_536
"""Rows that are held, and written, at a time."""
HU = ("mean", "sd", "minimum", "maximum", "median")
MM, ML, HOUNSFIELD = "mm", "mL", "HU"

Row = dict[str, Any]


@dataclass(frozen=True)
class CaseRecord:
    """What became of a case: its name, why it failed if it did, and its statistics file if there is one."""

    case: str
    done: bool
    error: str
    document: Mapping[str, Any]

    @property
    def status(self) -> str:
        """The same in a word."""
        return "done" if self.done else "failed"


def _make_schema() -> pa.Schema:
    """Names, types and units of the columns."""
    number, flag, text = pa.float64(), pa.bool_(), pa.string()
    texts = pa.list_(text)
    centre = [(f"centroid_{axis}_mm", number, MM, UNITS["centroid_mm"]) for axis in "xyz"]
    box = [(f"{axis}_{end}_mm", number, MM, UNITS["box_mm"]) for axis in "xyz" for end in ("min", "max")]
    columns = [
        ("case", text, "", "the case's public name"),
        ("status", text, "", "done, or failed"),
        ("error", text, "", "why it failed, or which of its outputs could not be made"),
        ("organ", text, "", "null in the one row of a case without figures"),
        ("value", pa.int32(), "", "the organ's number in the mask"),
        ("found", flag, "", UNITS["found"]),
        ("voxels", pa.int64(), "voxels", "how many the mask holds"),
        ("volume_ml", number, ML, UNITS["volume_ml"]),
        *((f"hu_{key}", number, HOUNSFIELD, UNITS["hu"]) for key in HU),
        *centre,
        *box,
        ("touches_border", flag, "", UNITS["touches_border"]),
        ("confidence", number, "1", UNITS["confidence"]),
        ("model_dice", number, "1", UNITS["model_dice"]),
        ("doubtful", flag, "", "whether this organ, or the whole answer, is to be doubted"),
        ("doubts", texts, "", "reasons to doubt this organ or the whole answer"),
        ("compared_with_training", flag, "", "whether the scan was compared with what the model knows"),
        ("slices", pa.int32(), "", "axial slices of the scan"),
        ("warnings", texts, "", "what is to be known of the scan and the answer"),
    ]
    return pa.schema(
        [pa.field(name, kind, metadata={"unit": unit, "meaning": told}) for name, kind, unit, told in columns]
    )


SCHEMA = _make_schema()


class FiguresWriter:
    """A Parquet file of figures in the making; use it as a context.

    Parameters
    ----------
    path
        The file to be made.
    organs
        Names of the organs, which have a row each of every case that has figures.
    notice
        What nobody may forget who reads the figures.

    Raises
    ------
    OSError
        If the disk refuses it.
    """

    def __init__(self, path: Path, organs: Sequence[str], notice: str) -> None:
        self._organs = organs
        about = {"domainsam": domainsam.__version__, "notice": notice}
        self._file = parquet.ParquetWriter(path, SCHEMA.with_metadata(about), compression="zstd")
        self._rows: list[Row] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._file.close()

    def add(self, record: CaseRecord) -> None:
        """Take in a case."""
        self._rows += list_rows(record, self._organs)
        if len(self._rows) >= GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA))
        self._rows = []


def list_rows(record: CaseRecord, organs: Sequence[str]) -> Iterator[Row]:
    """The rows of a case: one an organ, or a single one without any where there are no figures."""
    document = record.document
    case: Row = {
        "case": show(record.case),
        "status": record.status,
        "error": show(record.error) or None,
        "slices": document.get("slices"),
        "warnings": [show(text) for text in document.get("warnings", ())],
    }
    if "organs" not in document:
        yield case
        return
    judgement = document.get("judgement", {})
    if judgement:
        case["compared_with_training"] = judgement["compared_with_training"]
    for name in organs:
        figures = document["organs"].get(name, {})
        row = {**case, "organ": name, **flatten(figures)}
        if judgement:
            doubts = [doubt["text"] for doubt in judgement["doubts"] if doubt["about"] in ("", name)]
            row |= {"doubtful": bool(doubts), "doubts": [show(text) for text in doubts]}
        yield row


def flatten(figures: Mapping[str, Any]) -> Row:
    """An organ of a statistics file as columns; unknown ones are left out."""
    kept = ("value", "found", "voxels", "volume_ml", "touches_border", "confidence", "model_dice")
    row = {name: figures.get(name) for name in kept}
    hu, centre, box = (figures.get(name) for name in ("hu", "centroid_mm", "box_mm"))
    if hu is not None:
        row |= {f"hu_{key}": hu[key] for key in HU}
    if centre is not None:
        row |= {f"centroid_{axis}_mm": at for axis, at in zip("xyz", centre, strict=True)}
    if box is not None:
        for axis, low, high in zip("xyz", *box, strict=True):
            row |= {f"{axis}_min_mm": low, f"{axis}_max_mm": high}
    return row
