"""CTs by cohort: a CSV of paths, or a folder of volume files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from domainsam.documents import read_rows, resolve_beside
from domainsam.errors import InputError
from domainsam.infer.many import Entry
from domainsam.infer.outputs import safe_name
from domainsam.names import show
from domainsam.network import require_local
from domainsam.reading import reads
from domainsam_ct.read.dicom.files import is_dicom_file
from domainsam_ct.read.open import VOLUMES

PATH_COLUMNS = ("path", "file", "scan", "image", "ct")
NAME_COLUMNS = ("case", "id", "name")


def list_cases(inputs: Sequence[Path]) -> tuple[Entry, ...]:
    """CTs of all inputs; a volume, a DICOM folder and a zip of one are a CT each.

    Parameters
    ----------
    inputs
        Also ``.csv`` with a column ``path``, relative to the table, and ``case`` if need be; and folders that
        hold NIfTI or ITK files and no DICOM files.

    Raises
    ------
    MissingInputError
        If a table is not there.
    InputError
        If it is none, or names an address on the network.
    """
    entries: list[Entry] = []
    for given in inputs:
        if given.suffix.lower() == ".csv":
            entries += _read_csv(given)
        else:
            entries += [Entry(str(path)) for path in _list_folder(given) or [given]]
    return tuple(entries)


def _list_folder(path: Path) -> list[Path]:
    """Volume files that lie in a folder itself, by name; none where it is a DICOM series or a file."""
    if not path.is_dir():
        return []
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    volumes = [file for file in files if file.name.lower().endswith(VOLUMES)]
    others = (file for file in files if not file.name.lower().endswith(VOLUMES))
    return [] if not volumes or any(map(is_dicom_file, others)) else volumes


@reads("a table of cases")
def _read_csv(path: Path) -> list[Entry]:
    rows, names = read_rows(path)
    where = next((names[name] for name in PATH_COLUMNS if name in names), None)
    if where is None:
        raise InputError(
            f"{path}: expected a column 'path' and a row for each case, got {', '.join(names) or 'nothing'}"
        )
    called = next((names[name] for name in NAME_COLUMNS if name in names), None)
    entries = []
    for number, row in enumerate(rows, start=2):
        line = f"{path}: line {number}"
        if not (row[where] or "").strip():
            raise InputError(f"{line} lacks its path; fill it in")
        source = require_local(resolve_beside(path, row[where].strip()), line)
        name = (row[called] or "").strip() if called else ""
        entries.append(Entry(source, safe_name(show(name), "case") if name else None))
    if not entries:
        raise InputError(f"{path}: names no case; give a table that holds some")
    return entries
