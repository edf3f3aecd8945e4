"""Keep patients' names out of file names, tables and reports.

Folders exported from an archive are often named after the patient. A case is
named after its folder, so its name is compared with what the DICOM files say
of the patient, and replaced where it tells any of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from domainsam.errors import DomainSamError
from domainsam.pseudonyms import hide_path, make_pseudonym
from domainsam_ct.read.dicom.account import join_letters, split_words
from domainsam_ct.read.dicom.files import DicomFiles, is_dicom_file, read_dataset
from domainsam_ct.read.volume import Volume

IDENTIFYING = ["PatientName", "PatientID", "OtherPatientNames", "PatientBirthDate", "AccessionNumber"]


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
    words = find_patient_words(source)
    public = stem
    if _tells(stem, words):
        public = make_pseudonym(stem, find_key(), "case")
    if _tells(str(source.absolute()), words):
        named = [name for name in (source.name, stem) if _tells(name, words)]
        hide_path(source, public, named)
    return public


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
            dataset: Any = read_dataset(stream, IDENTIFYING)
        if dataset is None:
            continue
        yield split_words(str(dataset.get(keyword, "") or "") for keyword in IDENTIFYING)
