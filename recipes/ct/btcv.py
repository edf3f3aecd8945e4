"""The eighteen abdominal CTs of BTCV that TransUNet's split trains on, as CT and label files.

    python -m recipes.ct.btcv SOURCE OUT [--labels FOLDER]

``SOURCE`` is one of two things. The official one, ``RawData/Training`` of the
challenge "Multi-Atlas Labeling Beyond the Cranial Vault" (Synapse syn3193805,
free after registration), holds ``img/img0005.nii.gz`` and
``label/label0005.nii.gz`` with thirteen organs. Or it holds
``Prepared-data/3D-images`` and ``Prepared-data/masks``: the same slices as
pictures of 8 bits, image0001.png to image2211.png, windowed to -125 to 275 HU,
with eight organs in colours; ``--labels`` is then a folder of
``label0005.nii.gz`` with these eight organs, which has the spacing. Masks and
labels are compared voxel by voxel, and kidneys must lie behind the liver and
left of it, before a pair is written.

``OUT/images`` and ``OUT/labels`` are what ``domainsam ct train`` takes, with
``--label-map synapse``. The data are for research and not to be passed on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from domainsam_ct.labels import load_label_map

SLICES = {
    5: 117, 6: 131, 7: 163, 9: 149, 10: 148, 21: 143, 23: 96, 24: 124, 26: 131,
    27: 88, 28: 89, 30: 153, 31: 93, 33: 104, 34: 98, 37: 99, 39: 90, 40: 195,
}  # fmt: skip
"""Slices of each case of the training split, in the order of the pictures."""
COLOURS = {
    "aorta": 0x0000FF,
    "gallbladder": 0x00FF00,
    "kidney_left": 0xFF0000,
    "kidney_right": 0x00FFFF,
    "liver": 0xFF00FF,
    "pancreas": 0xFFFF00,
    "spleen": 0x9400FF,
    "stomach": 0xC69774,
}
WINDOW = (-125.0, 275.0)
"""Hounsfield units of grey 0 and 255."""


def read_pictures(prepared: Path, labels: Path) -> Iterator[tuple[int, NDArray[np.int16], nib.Nifti1Image]]:
    """Case by case: its number, Hounsfield units ``(X, Y, Z)`` int16, and its label file.

    Raises
    ------
    ValueError
        If a mask in colours and the label file differ in any voxel.
    """
    values = {organ.name: value for value, organ in load_label_map("synapse").items()}
    table = {colour: values[name] for name, colour in COLOURS.items()}
    first = 1
    for case, count in SLICES.items():
        truth = nib.load(labels / f"label{case:04d}.nii.gz")
        numbers = range(first, first + count)
        first += count
        grey = np.stack([_read_grey(prepared / "3D-images" / f"image{n:04d}.png") for n in numbers], axis=2)
        marks = np.stack([_read_marks(prepared / "masks" / f"image{n:04d}.png", table) for n in numbers], 2)
        # Pictures run against the files' second axis.
        grey, marks = grey[:, ::-1], marks[:, ::-1]
        known = np.asanyarray(truth.dataobj)
        if known.shape != marks.shape or (known != marks).any():
            raise ValueError(f"case {case}: masks in colours and label{case:04d}.nii.gz differ")
        low, high = WINDOW
        # These label files name the second axis the wrong way round: it runs from back to front.
        affine = np.diag([*np.sign(np.diag(truth.affine)[:3]), 1.0])
        affine[:3, :3] *= np.array(truth.header.get_zooms()[:3])
        affine[1, 1] = abs(affine[1, 1])
        units = np.round(grey * ((high - low) / 255) + low).astype(np.int16)
        yield case, units, nib.Nifti1Image(marks, affine)


def read_official(folder: Path) -> Iterator[tuple[int, NDArray[np.int16], nib.Nifti1Image]]:
    """The same from the challenge's own files, clipped to :data:`WINDOW`; eight of thirteen organs are kept.

    Raises
    ------
    ValueError
        If a CT and its labels have different shapes.
    """
    theirs = {organ.name: value for value, organ in load_label_map("btcv").items()}
    table = np.zeros(256, np.uint8)
    for value, organ in load_label_map("synapse").items():
        table[theirs[organ.name]] = value
    for case in SLICES:
        image = nib.load(folder / "img" / f"img{case:04d}.nii.gz")
        truth = nib.load(folder / "label" / f"label{case:04d}.nii.gz")
        if image.shape != truth.shape:
            raise ValueError(f"case {case}: CT has shape {image.shape}, labels {truth.shape}")
        marks = table[np.asanyarray(truth.dataobj).astype(np.uint8)]
        units = np.clip(np.asanyarray(image.dataobj), *WINDOW)
        yield case, np.round(units).astype(np.int16), nib.Nifti1Image(marks, image.affine)


def _read_grey(path: Path) -> NDArray[np.float32]:
    return np.asarray(Image.open(path).convert("L"), np.float32)


def _read_marks(path: Path, table: dict[int, int]) -> NDArray[np.uint8]:
    """Organ values of a mask in colours; black is background, any other colour a fault."""
    red, green, blue = np.moveaxis(np.asarray(Image.open(path).convert("RGB"), np.int64), 2, 0)
    colours, where = np.unique((red << 16) | (green << 8) | blue, return_inverse=True)
    unknown = [f"#{int(colour):06x}" for colour in colours if colour and int(colour) not in table]
    if unknown:
        raise ValueError(f"{path}: colours {', '.join(unknown)} are no organ's")
    values = np.array([table.get(int(colour), 0) for colour in colours], np.uint8)
    return values[where].reshape(red.shape)


def check_place(case: int, truth: nib.Nifti1Image) -> None:
    """Refuse labels whose affine has front and back or left and right exchanged.

    Raises
    ------
    ValueError
        If the left kidney does not lie to the left of the liver and behind it.
    """
    values = {organ.name: value for value, organ in load_label_map("synapse").items()}
    marks = np.asanyarray(truth.dataobj)
    kidney, liver = (
        nib.affines.apply_affine(truth.affine, np.argwhere(marks == values[name]).mean(axis=0))
        for name in ("kidney_left", "liver")
    )
    # RAS: x grows to the right, y to the front.
    if not (kidney[0] < liver[0] and kidney[1] < liver[1]):
        raise ValueError(
            f"case {case}: the left kidney lies right of the liver or before it; check the affine"
        )


def main() -> None:
    """Write the pairs and tell their spacing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="RawData/Training, or the folder that holds Prepared-data")
    parser.add_argument("out", type=Path, help="folder for images and labels")
    parser.add_argument("--labels", type=Path, help="label files with spacing, for Prepared-data")
    given = parser.parse_args()
    prepared = given.source / "Prepared-data"
    if prepared.is_dir() and given.labels is None:
        parser.error("Prepared-data has no spacing: give --labels, a folder of label0005.nii.gz and so on")
    cases = read_pictures(prepared, given.labels) if prepared.is_dir() else read_official(given.source)
    for name in ("images", "labels"):
        (given.out / name).mkdir(parents=True, exist_ok=True)
    for case, units, truth in cases:
        marks = np.asanyarray(truth.dataobj).astype(np.uint8)
        check_place(case, truth)
        for name, values in (("images", units), ("labels", marks)):
            image = nib.Nifti1Image(values, truth.affine)
            image.header.set_xyzt_units("mm")
            nib.save(image, given.out / name / f"case{case:04d}.nii.gz")
        spacing = " x ".join(f"{size:.3f}" for size in truth.header.get_zooms()[:3])
        print(f"case{case:04d}: {' x '.join(map(str, units.shape))} voxels of {spacing} mm", flush=True)


if __name__ == "__main__":
    main()
