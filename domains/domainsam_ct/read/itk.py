"""NRRD and MetaImage files through SimpleITK, where it is installed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import DependencyError, InputError, MissingInputError
from domainsam.limits import require_memory
from domainsam.names import check_part, show
from domainsam_ct.read.geometry import NativeGeometry, Orientation, check_affine
from domainsam_ct.read.itk_whole import check_head, check_voxels
from domainsam_ct.read.planes import DEFLATE_RATIO, PlaneStore
from domainsam_ct.read.volume import MaskGeometry, ReadMask, Volume, Voxels, check_values, collect_labels

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
SLAB_PLANES = 32
COPIES = 3
"""The voxels in ITK, as an array, and as labels or staged slabs."""
ORIENTATION_WORDS = (b"space directions:", b"TransformMatrix", b"Rotation", b"Orientation =")
"""What the text of a header holds where it says how the volume lies."""
HEADER_BYTES = 1 << 16
DETACHED = (".mhd", ".nhdr")
"""Headers whose voxels lie in a file beside them."""
DATA_FILE = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)([^\r\n]*)", re.MULTILINE | re.IGNORECASE)


def open_itk(path: Path, scratch: Path | None = None) -> Volume:
    """Open a CT in an NRRD or MetaImage file; see :func:`domainsam_ct.read.open.open_volume`."""
    values, native, notes = _read(path)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(
            f"{path}: holds voxels that are NaN or infinite; fill them first, with -1024 for air"
        )
    low, high = float(values.min()), float(values.max())
    notes = (*notes, *check_values(str(path), low, high))
    store = PlaneStore.temporary(native.shape, values.dtype, native.orientation.slice_axis, scratch)
    try:
        for start, stop in store.slabs():
            store.write_slab(start, values[..., start:stop])
    except BaseException:
        store.close()
        raise
    return Volume(native.canonical_grid(), native, Voxels(store), path.name, notes, (low, high))


def read_itk_mask(path: Path) -> ReadMask:
    """Read a mask as :func:`domainsam_ct.read.open.read_mask`; names come from 3D Slicer's segment fields."""
    values, native, notes = _read(path, mask=True)
    names = _slicer_names(path)
    if values.ndim == 4:
        return _read_layers(path, values, native, notes)
    planes = (values[..., k : k + SLAB_PLANES] for k in range(0, native.shape[2], SLAB_PLANES))
    labels = collect_labels(path, native, planes)
    cut = _is_slicers(path)
    geometry = MaskGeometry(
        native.canonical_grid(), native, names, path.name, notes, open_axes=(cut, cut, cut)
    )
    return ReadMask(labels, geometry)


def _is_slicers(path: Path) -> bool:
    """Whether a file is 3D Slicer's, which leaves out empty surroundings."""
    return path.name.lower().endswith(".seg.nrrd")


def _read_layers(
    path: Path, values: NDArray[Any], native: NativeGeometry, notes: tuple[str, ...]
) -> ReadMask:
    """A mask of several layers ``(i, j, k, layer)``, as 3D Slicer writes segments that overlap.

    Raises
    ------
    InputError
        If the header does not say which segment is which value of which layer.
    """
    fields = _read_fields(path)
    starts = [key.removesuffix("_LabelValue") for key in fields if key.endswith("_LabelValue")]
    labels = np.zeros(native.shape, np.uint16)
    whole: dict[int, NDArray[np.bool_]] = {}
    names: dict[int, str] = {}
    for number, start in enumerate(sorted(starts, key=_segment_number), start=1):
        layer, value = fields.get(f"{start}_Layer", "0"), fields[f"{start}_LabelValue"]
        if not (layer.isdigit() and value.isdigit() and int(layer) < values.shape[3]):
            raise InputError(f"{path}: does not say in which layer and value {start} is; export it again")
        names[number] = fields.get(f"{start}_Name", start)
        whole[number] = values[..., int(layer)] == int(value)
        labels[whole[number]] = number
    if not names:
        raise InputError(f"{path}: has several values to a voxel and no segments, expected one value")
    shared = {n for n, mask in whole.items() if not np.array_equal(mask, labels == n)}
    shared |= {int(n) for value in shared for n in np.unique(labels[whole[value]])}
    turn = native.orientation
    if shared:
        told = ", ".join(names[n] for n in sorted(shared))
        notes = (*notes, f"segments overlap ({told}): each is measured whole")
    geometry = MaskGeometry(
        native.canonical_grid(),
        native,
        names,
        path.name,
        notes,
        {n: turn.to_canonical(whole[n]) for n in sorted(shared)},
        (True, True, True),
        own_numbers=True,
    )
    kept = labels.astype(np.uint8) if len(names) < 256 else labels
    return ReadMask(turn.to_canonical(kept), geometry)


def _segment_number(start: str) -> int:
    digits = start.removeprefix("Segment")
    return int(digits) if digits.isdigit() else 0


def write_itk_mask(path: Path, store: PlaneStore, native: NativeGeometry, labels: Mapping[int, str]) -> None:
    """Write staged labels as a compressed NRRD or MetaImage, with 3D Slicer's fields for names.

    Raises
    ------
    InputError
        If the grid is sheared, which these formats cannot hold safely.
    OSError
        If the disk refuses.
    """
    sitk = _simple_itk()
    image = sitk.GetImageFromArray(store.read_slab(0, native.shape[2]).transpose(2, 1, 0))
    spacing = np.array(native.spacing)
    image.SetSpacing(native.spacing)
    image.SetOrigin((LPS_TO_RAS @ native.affine[:3, 3]).tolist())
    try:
        image.SetDirection((LPS_TO_RAS @ native.affine[:3, :3] / spacing).ravel().tolist())
    except RuntimeError as error:
        raise InputError(
            f"{path.name}: a grid with axes that are not perpendicular cannot be written so; use .nii.gz"
        ) from error
    for number, (value, name) in enumerate(sorted(labels.items())):
        image.SetMetaData(f"Segment{number}_LabelValue", str(value))
        image.SetMetaData(f"Segment{number}_Name", name)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(f"SimpleITK cannot write it: {_last_line(error)}") from error


def _read(path: Path, mask: bool = False) -> tuple[NDArray[Any], NativeGeometry, tuple[str, ...]]:
    """Values ``(i, j, k)``, of layers ``(i, j, k, layer)``, their grid, and what is to be known."""
    sitk = _simple_itk()
    # Before anything follows a header to another file.
    parts = _parts(path)
    check_head(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{path}: is not an NRRD or MetaImage file, or a damaged one") from error
    _check_kind(path, reader, mask, parts)
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if not any(word in head for word in ORIENTATION_WORDS):
        raise InputError(
            f"{path}: does not say how the volume lies, so left and right are unknown; "
            "export it with its orientation"
        )
    size = reader.GetSize()
    direction = np.array(reader.GetDirection()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ direction * np.array(reader.GetSpacing())
    affine[:3, 3] = LPS_TO_RAS @ np.array(reader.GetOrigin())
    notes = check_affine(str(path), affine)
    expected = math.prod(size) * reader.GetNumberOfComponents() * _pixel_bytes(reader)
    require_memory(path, COPIES * expected, f"{' x '.join(map(str, size))} voxels")
    check_voxels(path, parts[-1], expected)
    try:
        values = sitk.GetArrayFromImage(reader.Execute())
    except (RuntimeError, MemoryError) as error:
        raise InputError(
            f"{path}: is damaged or truncated, or its header asks for more than there is; copy it again"
        ) from error
    shape = (int(size[0]), int(size[1]), int(size[2]))
    native = NativeGeometry(shape, affine, Orientation.of(affine), "itk")
    return values.transpose(2, 1, 0, *range(3, values.ndim)), native, notes


def _pixel_bytes(reader: Any) -> int:
    """Bytes of one value, by the name that ITK gives its type."""
    found = re.search(r"(\d+)-bit", _simple_itk().GetPixelIDValueAsString(reader.GetPixelID()))
    return int(found[1]) // 8 if found else 1


def _parts(path: Path) -> list[Path]:
    """The file, and the one with its voxels where its header names another.

    Raises
    ------
    InputError
        If that does not lie beside the header, or there are several.
    """
    if not path.name.lower().endswith(DETACHED):
        return [path]
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    found = DATA_FILE.search(head)
    named = "" if found is None else found.group(1).decode("utf-8", "replace").strip()
    if named.upper() == "LOCAL":
        return [path]
    if not named or named.upper().startswith("LIST") or "%" in named:
        raise InputError(f"{path}: does not name one file with its voxels; save it as .nrrd or .mha")
    data = path.with_name(check_part(named, path.name))
    if not data.is_file():
        raise MissingInputError(f"{path}: its voxels are in {show(named)}, which is not beside it; copy both")
    return [path, data]


def _check_kind(path: Path, reader: Any, mask: bool, parts: list[Path]) -> None:
    size = reader.GetSize()
    told = " x ".join(map(str, size))
    if reader.GetDimension() == 4:
        raise InputError(f"{path}: has 4 axes ({told}), expected one volume of 3; save one by itself")
    if reader.GetDimension() != 3 or (min(size) < 2 and not mask):
        raise InputError(f"{path}: is a single image ({told}), expected a volume of several slices")
    if reader.GetNumberOfComponents() != 1 and not mask:
        raise InputError(f"{path}: has several values to a voxel, expected one")
    if size[0] * size[1] * size[2] > DEFLATE_RATIO * sum(file.stat().st_size for file in parts):
        raise InputError(f"{path}: its header says {told} voxels, more than a file of its size can hold")


def _slicer_names(path: Path) -> dict[int, str]:
    """Names by value from the ``SegmentN_`` fields that 3D Slicer writes."""
    fields = _read_fields(path)
    names = {}
    for key, value in fields.items():
        name = fields.get(key.replace("_LabelValue", "_Name"))
        if key.endswith("_LabelValue") and value.isdigit() and name is not None:
            names[int(value)] = name
    return names


def _read_fields(path: Path) -> dict[str, str]:
    """The header's further fields."""
    reader = _simple_itk().ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def _simple_itk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise DependencyError(
            "NRRD and MetaImage files need SimpleITK: install it with pip install 'domainsam[itk]'"
        ) from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][:120]
