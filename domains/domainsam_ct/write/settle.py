"""Identifiers and times of DICOM objects that are made here, such that a run can be repeated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from pydicom.uid import generate_uid

from domainsam.limits import is_reproducible, tell_moment

OWN = ("SOPInstanceUID", "SeriesInstanceUID")
"""Of the object itself; further inside the same keywords name other objects."""
INSIDE = ("TrackingUID", "DimensionOrganizationUID")
"""Made with the object, wherever they stand in it."""
MOMENTS = ("Content", "InstanceCreation", "StructureSet")
"""What has a date and a time of the object's making; the study's and the scan's are theirs."""
LIBRARY = "highdicom"
"""What adds itself, with the time, to the equipment that contributed."""
HELD = "2.25.0"
"""In the place of an identifier that is still to be found."""


def settle(made: Any) -> None:
    """Make an object's identifiers and times follow from its content, where outputs are to be reproducible.

    Two runs then write equal bytes, and equal identifiers only where all else is
    equal: they are a digest of everything that the object holds, references to
    its scan included (UIDs of a name: PS3.5, annex B; SHA-512 by pydicom).
    Otherwise the object is left as it is, with identifiers and times of its own.

    Parameters
    ----------
    made
        A pydicom dataset with its file meta information, complete; changed in place.
    """
    if not is_reproducible():
        return
    now = tell_moment()
    for name in MOMENTS:
        for keyword, form in ((f"{name}Date", "%Y%m%d"), (f"{name}Time", "%H%M%S")):
            if keyword in made:
                setattr(made, keyword, now.strftime(form))
    for item in made.get("ContributingEquipmentSequence") or ():
        if LIBRARY in str(item.get("Manufacturer", "")).lower() and "ContributionDateTime" in item:
            item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    places = list(_find_own(made))
    known: dict[str, int] = {}
    for element in places:
        known.setdefault(str(element.value), len(known))
    order = [known[str(element.value)] for element in places]
    _name(made, places, [HELD] * len(places))
    content = BytesIO()
    made.save_as(content, enforce_file_format=True)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    _name(made, places, [generate_uid(entropy_srcs=[digest, str(number)]) for number in order])


def _find_own(made: Any) -> Iterator[Any]:
    """Elements of the object's own identifiers, in the order of their tags."""
    yield from (made[keyword] for keyword in OWN)
    yield from (element for element in made.iterall() if element.keyword in INSIDE)


def _name(made: Any, places: list[Any], names: list[str]) -> None:
    for element, name in zip(places, names, strict=True):
        element.value = name
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
