"""Keep patients' names out of file names, tables and reports.

Folders exported from an archive are often named after the patient. A case is
named after its folder, so its name is compared with what the DICOM files say
of the patient, and replaced where it tells any of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from domainsam.errors import DomainSamError
from domainsam_ct.read.dicom.files import DicomFiles, is_dicom_file, read_dataset
from domainsam_ct.read.volume import Volume

IDENTIFYING = ["PatientName", "PatientID", "OtherPatientNames", "PatientBirthDate", "AccessionNumber"]
SHORTEST_WORD = 3
"""Letters or digits from which part of a name is taken for the patient's; shorter ones are anywhere."""


def make_public_stem(source: Path, stem: str) -> str:
    """A case's name that tells nothing of the patient.

    Returns ``stem``, or ``case-`` and eight digits of a hash of it where it
    holds part of the patient's name or number. Files that are no DICOM have
    only the name that the user gave them.
    """
    plain = re.sub(r"[\W_]+", "", stem).lower()
    if any(word in plain for word in find_patient_words(source)):
        return "case-" + hashlib.sha256(stem.encode()).hexdigest()[:8]
    return stem


def find_patient_words(source: Path) -> set[str]:
    """Words of the identifying tags in the first DICOM file of a folder or zip, in small letters."""
    if source.is_file() and source.suffix.lower() != ".zip" and not is_dicom_file(source):
        return set()
    try:
        with DicomFiles(source) as files:
            return next(_words(files), set())
    except (DomainSamError, OSError):
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
        texts = [str(dataset.get(keyword, "") or "") for keyword in IDENTIFYING]
        words = {word.lower() for text in texts for word in re.split(r"[\W_]+", text)}
        whole = {re.sub(r"[\W_]+", "", text).lower() for text in texts}
        yield {word for word in words | whole if len(word) >= SHORTEST_WORD}
