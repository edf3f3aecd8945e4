"""What a volume holds and what ``domainsam ct segment`` would make of it, for ``domainsam info``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from domainsam_ct.volume import ITK_NAMES, NIFTI_NAMES, Volume, open_volume

FORMATS = {"nifti": "NIfTI", "itk": "NRRD or MetaImage", "dicom": "DICOM series"}


def describe(path: str) -> dict[str, object]:
    """Facts about a CT, in the order a person wants to read them; none of the patient.

    Empty for files whose names say that they are no volumes.

    Raises
    ------
    InputError
        If it is no CT volume, is damaged, or its place cannot be trusted.
    """
    place = Path(path)
    if not place.is_dir() and not place.name.lower().endswith((*NIFTI_NAMES, *ITK_NAMES, ".zip")):
        return {}
    with open_volume(place) as volume:
        return _facts(volume)


def _facts(volume: Volume) -> dict[str, object]:
    native = volume.native
    sizes = [size * step for size, step in zip(volume.shape, volume.spacing, strict=True)]
    low, high = volume.hu_range
    return {
        "format": FORMATS[native.format],
        "size": f"{_times(native.shape)} voxels, stored as {native.orientation.code}",
        "voxel": f"{_times(native.spacing)} mm",
        "axial slices": f"{volume.shape[2]}, {volume.spacing[2]:.4g} mm apart, each {sizes[0]:.0f} x "
        f"{sizes[1]:.0f} mm",
        "values": f"{low:g} to {high:g}",
        "centre": f"{_times(volume.grid.to_world([(size - 1) / 2 for size in volume.shape]), ', ')} mm RAS",
        "notes": "; ".join(volume.warnings) or "none",
    }


def _times(values: Iterable[float], between: str = " x ") -> str:
    return between.join(f"{value:.4g}" for value in values)
