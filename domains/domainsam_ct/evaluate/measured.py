"""Measure the organs of a mask of any tool, on its scan where that is given."""

from __future__ import annotations

import numpy as np

from domainsam_ct.evaluate.labelled import LabelledMask
from domainsam_ct.measure.statistics import Tally
from domainsam_ct.read.staged import CHUNK
from domainsam_ct.read.volume import Volume


def measure_labelled(mask: LabelledMask, volume: Volume | None = None) -> Tally:
    """Sums over the organs of a mask, each whole; with Hounsfield units where a CT on its grid is given."""
    tally = Tally(mask.grid, mask.labels)
    shared = np.array(list(mask.whole), mask.values.dtype)
    depth = mask.values.shape[2]
    for start in range(0, depth, CHUNK):
        stop = min(start + CHUNK, depth)
        part = np.moveaxis(mask.values[:, :, start:stop], 2, 0)
        if not part.any():
            continue
        hu = None if volume is None else np.moveaxis(volume.slices(start, stop), 2, 0)
        tally.add(start, np.where(np.isin(part, shared), 0, part), hu)
        for value, whole in mask.whole.items():
            inside = np.moveaxis(whole[:, :, start:stop], 2, 0)
            tally.add(start, inside * mask.values.dtype.type(value), hu)
    return tally


def tell_frames(mask: LabelledMask, frame_uid: str) -> tuple[str, ...]:
    """A note where mask and scan name different frames of reference although their voxels coincide."""
    if not mask.frame_uid or not frame_uid or mask.frame_uid == frame_uid:
        return ()
    return (
        f"{mask.path.name}: names another frame of reference than the scan; its voxels coincide with the "
        "scan's, and by them it is placed",
    )
