"""Segment a CT from Python, and look at what came out.

Run: python examples/ct_segment.py [FOLDER] [CT]
CT is a NIfTI, NRRD or MetaImage file, a DICOM folder, or a zip of one. Without
a CT of yours it draws an abdomen of ellipsoids, which is nobody's anatomy.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from domainsam_ct.generated import draw_abdomen, write_sample
from domainsam_ct.model.organs import load_model
from domainsam_ct.read.open import open_volume, read_mask
from domainsam_ct.segment import segment_cases
from domainsam_ct.settings import OutputOptions, SegmentOptions

SHAPE, SPACING = (128, 96, 16), (2.8, 2.8, 8.0)


def main(folder: Path, scan: Path | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if scan is None:
        scan = folder / "sample.nii.gz"
        write_sample(scan, draw_abdomen(SHAPE, SPACING, seed=1)[0], SPACING)
    model = load_model()
    outputs = OutputOptions(folder, statistics=True, report=True, preview=True, overwrite=True)
    result = segment_cases([scan], SegmentOptions(outputs), model).results[0]
    print(result.sentence())
    for kind, path in result.paths.items():
        print(f"  {kind:<16} {path}")

    # The mask again, slice by slice beside the scan: how much of each organ is as dense as soft tissue?
    labels = read_mask(result.paths["mask"]).labels
    with open_volume(scan) as volume:
        hu = volume.slices(0, volume.shape[2])
    for organ in result.found:
        inside = hu[labels == organ.value]
        soft = np.mean((inside > -30) & (inside < 300))
        print(f"{organ.name}: {organ.volume_ml:.0f} mL, {100 * soft:.0f} % of it soft tissue")


if __name__ == "__main__":
    main(
        Path(sys.argv[1] if len(sys.argv) > 1 else "domainsam-example"),
        Path(sys.argv[2]) if len(sys.argv) > 2 else None,
    )
