"""Keep patients' names out of file names, tables and reports.

Folders exported from an archive are often named after the patient. A case is
named after its folder, so its name is compared with what the DICOM files say
of the patient, and replaced where it tells any of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domainsam.errors import DomainSamError
from domainsam.pseudonyms import KEY_BYTES, find_key, hide_path, make_pseudonym, read_key
from domainsam_ct.read.dicom.account import IDENTIFYING, join_letters, split_words
from domainsam_ct.read.dicom.files import DicomFiles, is_dicom_file, read_dataset
from domainsam_ct.read.volume import Volume

_PASSING = secrets.token_bytes(KEY_BYTES)
"""The key of a process that keeps nothing."""


def make_public_stem(source: Path, stem: str, find_key: Callable[[], bytes]) -> str:
    """A case's name that tells nothing of the patient; hides the input's path wherever it tells of one.

    Returns ``stem``, or where it holds part of the patient's name or number
    ``case-`` and digits that follow from it and a key. Files that are no
    DICOM have only the name that the user gave them.

    Parameters
    ----------
    find_key
        Gives the key; called only where one is needed.
    """
    return hide_case(stem, [source], find_key)


def hide_case(case: str, sources: Iterable[Path], find_key: Callable[[], bytes]) -> str:
    """A case's public name, as :func:`make_public_stem`; hides what of it and its files tells of a patient.

    What the DICOM files among them say of the patient counts for all: a mask
    as NIfTI is called after the folder of its scan.

    Parameters
    ----------
    sources
        Scan, masks and labels of the case.
    """
    files = tuple(sources)
    words = set[str]().union(*(find_patient_words(source) for source in files))
    public = make_pseudonym(case, find_key(), "case") if _tells(case, words) else case
    for source in files:
        if _tells(str(source.absolute()), words):
            hide_path(source, public, [name for name in (source.name, case) if _tells(name, words)])
    return public


@dataclass(frozen=True)
class Identifiers:
    """What of patients a command lets out that writes no case by itself.

    Parameters
    ----------
    keep
        Everything: names of files as they are.
    key_file
        The user's key of pseudonyms.
    out
        An output beside which a key is kept where the user has none; without one
        a pseudonym holds for a single run.
    """

    keep: bool = False
    key_file: Path | None = None
    out: Path | None = None

    def hide(self, case: str, sources: Iterable[Path | None]) -> str:
        """A case's public name, see :func:`hide_case`; those of the files that are there count.

        Raises
        ------
        MissingInputError, ConfigError, OutputError
            If the key cannot be read, is none, or cannot be kept.
        """
        files = [source for source in sources if source is not None and source.exists()]
        return case if self.keep else hide_case(case, files, self._find_key)

    def _find_key(self) -> bytes:
        if self.key_file is not None:
            return read_key(self.key_file)
        return _PASSING if self.out is None else find_key(self.out, folder=False)


def _tells(text: str, words: set[str]) -> bool:
    """Whether a text holds one of the words, whatever stands between its letters."""
    plain = join_letters(text)
    return any(word in plain for word in words)


def find_patient_words(source: Path) -> set[str]:
    """Words of the identifying tags in the first DICOM file of a folder or zip, in small letters."""
    if source.is_file() and source.suffix.lower() != ".zip" and not is_dicom_file(source):
        return set()
    try:
        with DicomFiles(source) as files:
            return next(_words(files), set())
    except (DomainSamError, OSError, MemoryError):
        # Opening the volume will say what is wrong with it.
        return set()


def read_patient_text(volume: Volume) -> str | None:
    """Name and number of the patient as the DICOM files give them; None where they do not."""
    if volume.native.series is None:
        return None
    header = volume.native.series.headers[0]
    words = [header.text(keyword).replace("^", " ").strip() for keyword in ("PatientName", "PatientID")]
    return ", ".join(word for word in words if word) or None


def _words(files: DicomFiles) -> Iterator[set[str]]:
    for number in range(len(files)):
        with files.open(number) as stream:
            dataset: Any = read_dataset(stream, [*IDENTIFYING])
        if dataset is None:
            continue
        yield split_words(str(dataset.get(keyword, "") or "") for keyword in IDENTIFYING)
