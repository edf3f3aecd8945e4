"""Account for every file of a DICOM folder: read, left out and named, or refused as it may be a slice."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from statistics import median

from domainsam.errors import InputError
from domainsam.names import show
from domainsam_ct.read.dicom.files import DicomFiles
from domainsam_ct.read.dicom.headers import CT_IMAGE, ENHANCED_CT, Found, SliceHeader

NAMED = 4
"""Files that a message names before it counts the rest."""
ALIKE = 0.2
"""A file that is no DICOM and differs in size by less than this share from the slices is taken for one."""
IDENTIFYING = ("PatientName", "PatientID", "OtherPatientNames", "PatientBirthDate", "AccessionNumber")
SHORTEST_WORD = 3
"""Letters or digits from which part of a name is taken for the patient's; shorter ones are anywhere."""


def split_words(texts: Iterable[str]) -> set[str]:
    """Words of identifying texts, and each text as one word, in small letters."""
    texts = list(texts)
    words = {word.lower() for text in texts for word in re.split(r"[\W_]+", text)}
    whole = {join_letters(text) for text in texts}
    return {word for word in words | whole if len(word) >= SHORTEST_WORD}


def join_letters(text: str) -> str:
    """A text's letters and digits, small and without anything between them."""
    return re.sub(r"[\W_]+", "", text).lower()


def name_files(files: DicomFiles, numbers: Sequence[int], headers: Iterable[SliceHeader]) -> str:
    """Names of files for a message; the number of one whose name tells part of a patient's name or number."""
    words = split_words({header.text(keyword) for header in headers for keyword in IDENTIFYING})
    told = []
    for number in numbers[:NAMED]:
        name = files.name(number)
        hidden = any(word in join_letters(name) for word in words)
        told.append(f"file {number + 1} of {len(files)} by name" if hidden else show(name))
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return ", ".join(told) + more


def refuse_damaged(files: DicomFiles, found: Found) -> None:
    """Refuse a folder with a damaged file that may be a slice: without it a scan would be cut short.

    Raises
    ------
    InputError
        Naming the files.
    """
    broken = [header.number for header in found.headers if _is_broken(header)]
    faults = sorted({*found.damaged, *broken, *_find_disguised(files, found)})
    if faults:
        raise InputError(
            f"{files.path}: {len(faults)} of its {len(files)} files may be slices and cannot be read: "
            f"{name_files(files, faults, found.headers)}; copy them again, or move them out if they are none"
        )


def _is_broken(header: SliceHeader) -> bool:
    """Whether a file says that it is a CT image and not how large it is."""
    says = header.class_uid in (CT_IMAGE, *ENHANCED_CT) and header.text("Modality") in ("CT", "")
    return says and not header.is_image


def _find_disguised(files: DicomFiles, found: Found) -> list[int]:
    """Files that are no DICOM but have the ending and about the size of the slices."""
    slices = {header.number for header in found.headers if header.class_uid == CT_IMAGE}
    if len(slices) < 2 or not found.strange:
        return []
    endings = {_ending(files.name(number)) for number in slices}
    usual = median(files.size(number) for number in slices)
    return [
        number
        for number in found.strange
        if _ending(files.name(number)) in endings and abs(files.size(number) - usual) <= ALIKE * usual
    ]


def _ending(name: str) -> str:
    ending = name.rpartition(".")[2].lower()
    # Archives name files by numbers: what follows a dot in a UID is no ending.
    return "" if ending.isdigit() or ending == name.lower() else ending


def note_others(
    files: DicomFiles, found: Found, slices: Collection[SliceHeader], read: Collection[int]
) -> tuple[str, ...]:
    """Sentences about files that no series holds.

    Parameters
    ----------
    slices
        All CT images that are no overviews.
    read
        Numbers of the files that series hold.
    """
    strays = sorted({header.number for header in slices} - set(read))
    others = sorted({header.number for header in found.headers} - set(read) - set(strays))
    groups = (
        (strays, "CT images belong to no series of several slices and were left out"),
        (others, "DICOM files hold no slice of a CT and were left out"),
        (list(found.strange), "files are no DICOM and were left out"),
    )
    return tuple(
        f"{len(numbers)} {what}: {name_files(files, numbers, found.headers)}"
        for numbers, what in groups
        if numbers
    )


def note_numbers(headers: Sequence[SliceHeader]) -> tuple[str, ...]:
    """A sentence where Instance Numbers say that slices are missing, though the places do not."""
    numbers = [header.whole("InstanceNumber") for header in headers]
    if len(set(numbers)) < len(numbers) or min(numbers) < 1:
        return ()
    steps = {later - earlier for earlier, later in zip(sorted(numbers), sorted(numbers)[1:], strict=False)}
    if len(steps) == 1:
        return ()
    missing = sorted(set(range(min(numbers), max(numbers) + 1)) - set(numbers))
    if len(missing) >= len(numbers):
        return ()
    told = ", ".join(map(str, missing[:NAMED])) + (" ..." if len(missing) > NAMED else "")
    return (f"Instance Numbers {told} are not among the slices: files may be missing from the folder",)
