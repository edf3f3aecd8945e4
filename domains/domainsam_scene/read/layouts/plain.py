"""Your own data: one folder a sensor, files of one name in all of them.

::

    root/rgb/a.png  root/depth/a.png  root/event/a.npy  root/labels/a.png
    root/labels.txt    one class a line, in the order of their numbers (optional)
    root/val.txt       names of a split, one a line (optional; or root/val/rgb/a.png)
    root/conditions.csv    name,weather,... what is known of each sample (optional)
"""

from __future__ import annotations

import csv
from pathlib import Path

from domainsam.documents import read_lines
from domainsam.errors import InputError, MissingInputError
from domainsam.reading import reading, reads_by
from domainsam_scene.read.images import SUFFIXES, read_image
from domainsam_scene.read.layouts.base import Labels, SampleRef, check_labels
from domainsam_scene.read.modalities import Plane, scale_plane
from domainsam_scene.settings import Range

TRUTH = "labels"
MOST_CLASSES = 255


class PlainLayout:
    """Folders named after sensors; the classes come from ``labels.txt``, where it exists."""

    name = "plain"
    colours: tuple[tuple[int, int, int], ...] = ()
    splits: tuple[str, ...] = ()
    absent_iou: float | None = None
    any_aspect = False
    dilate: int | None = None

    def __init__(self) -> None:
        self.labels: tuple[str, ...] = ()
        self.modalities: tuple[str, ...] = ()
        self.stray_labels: tuple[str, ...] = ()

    @reads_by("samples of this layout")
    def samples(self, root: Path, split: str | None) -> tuple[SampleRef, ...]:
        """Every name that any sensor's folder holds, as any layout gives them."""
        if not root.is_dir():
            raise MissingInputError(f"{root}: no such folder; expected one folder a sensor in it")
        self.labels = _class_names(root)
        base = root / split if split and (root / split).is_dir() else root
        found = {
            folder.name: _files(folder)
            for folder in sorted(base.iterdir())
            if folder.is_dir() and not folder.name.startswith(".")
        }
        truth = found.pop(TRUTH, {})
        sensors = {name: files for name, files in found.items() if files}
        if not sensors:
            raise InputError(f"{base}: holds no sensor's folder with images, such as rgb/a.png")
        self.modalities = tuple(sensors)
        names = sorted(set().union(*sensors.values()))
        self.stray_labels = tuple(sorted(set(truth) - set(names)))
        if split and base == root:
            names = _listed(root, split, names)
        conditions = _conditions(root)
        return tuple(
            SampleRef(
                name,
                {sensor: (files[name],) for sensor, files in sensors.items() if name in files},
                truth.get(name),
                conditions.get(name, {}),
            )
            for name in names
        )

    def read_plane(self, ref: SampleRef, modality: str, limits: Range | None) -> Plane:
        """One image; see :class:`~domainsam_scene.read.layouts.base.Layout`."""
        (path,) = ref.files[modality]
        return scale_plane(modality, read_image(path), str(path), limits)

    def read_labels(self, ref: SampleRef) -> Labels:
        """Class numbers; see :class:`~domainsam_scene.read.layouts.base.Layout`."""
        if ref.truth is None:
            raise MissingInputError(f"{ref.name}: has no labels; expected {TRUTH}/{ref.name}.png")
        raw = read_image(ref.truth, indices=True)
        if len(raw.values) != 1 or raw.values.dtype.kind not in "bui":
            raise InputError(
                f"{ref.truth}: holds {len(raw.values)} channels of {raw.values.dtype}, "
                "expected one of whole class numbers"
            )
        return check_labels(raw.values[0], len(self.labels) or MOST_CLASSES, ref.truth)


def _files(folder: Path) -> dict[str, Path]:
    """Readable files of a folder by their name without ending."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return {path.stem: path for path in files if not path.name.startswith(".")}


def _class_names(root: Path) -> tuple[str, ...]:
    path = root / "labels.txt"
    if not path.is_file():
        return ()
    return tuple(read_lines(path, "names of classes, a line each"))


def _conditions(root: Path) -> dict[str, dict[str, str]]:
    """What ``conditions.csv`` says of each sample; its first column holds the names."""
    path = root / "conditions.csv"
    if not path.is_file():
        return {}
    with reading(path, "a table of conditions"), path.open(encoding="utf-8", newline="") as file:
        head, *rows = [row for row in csv.reader(file) if row] or [[]]
    wrong = next((row for row in rows if len(row) != len(head)), None)
    if wrong is not None:
        raise InputError(
            f"{path}: a line begins {wrong[0]!r} and has {len(wrong)} cells, expected {len(head)}"
        )
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def _listed(root: Path, split: str, names: list[str]) -> list[str]:
    path = root / f"{split}.txt"
    if not path.is_file():
        raise InputError(f"{root}: has no split {split!r}: neither a folder nor a list {path.name}")
    wanted = read_lines(path, "names of samples, a line each")
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        raise InputError(f"{path}: names {unknown[0]!r}, which no sensor's folder holds")
    return wanted
