"""Show a network ground where a picture has none: a mirror image of what lies nearest, in place of black."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def fill_missing(image: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The picture with missing pixels filled from their neighbourhood.

    A missing pixel takes the value of its mirror image at the nearest pixel that is seen, so that texture
    goes on across a corner, a hole or an edge of whatever form, as it does where ``numpy.pad`` reflects.
    What no mirror image reaches takes the mean of the picture. Networks have learnt no black ground, and
    answer for it as far as their context reaches; none of this is ever an answer's place.

    Parameters
    ----------
    image
        ``(C, h, w)``.
    seen
        ``(h, w)``, true where the picture shows anything.

    Returns
    -------
    ``(C, h, w)`` float32; the picture itself where all of it, or nothing, is seen.
    """
    if seen.all() or not seen.any():
        return image
    nearest = ndimage.distance_transform_edt(~seen, return_distances=False, return_indices=True)
    missing = np.nonzero(~seen)
    mirrored = [2 * near[missing] - place for near, place in zip(nearest, missing, strict=True)]
    reached = np.ones(len(missing[0]), dtype=bool)
    for place, length in zip(mirrored, seen.shape, strict=True):
        reached &= (place >= 0) & (place < length)
        np.clip(place, 0, length - 1, out=place)
    reached &= seen[mirrored[0], mirrored[1]]
    filled = np.array(image, dtype=np.float32)
    mean = filled[:, seen].mean(axis=1, dtype=np.float64).astype(np.float32)
    values = filled[:, mirrored[0], mirrored[1]]
    filled[:, missing[0], missing[1]] = np.where(reached, values, mean[:, None])
    return filled
