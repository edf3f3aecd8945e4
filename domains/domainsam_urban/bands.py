"""Which bands of a raster are looked at, and which of its pixels hold data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags

from domainsam.errors import InputError

COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def choose_bands(path: str, dataset: Any, asked: Sequence[int] | None) -> tuple[int, int, int]:
    """Band numbers, from 1, of red, green and blue.

    Parameters
    ----------
    asked
        Three numbers, or one that is used three times. None: red, green and
        blue as the file names them; else the first three bands that are not
        alpha; else the only one.

    Raises
    ------
    InputError
        If there are two bands and none was chosen, the numbers are not in the
        file, or the bands hold colour indices or complex numbers.
    """
    if asked is not None:
        chosen = tuple(int(band) for band in asked)
        wrong = [band for band in chosen if not 1 <= band <= dataset.count]
        if wrong or len(chosen) not in (1, 3):
            raise InputError(
                f"{path}: bands {','.join(map(str, chosen)) or 'none'} were asked for; "
                f"expected one or three of 1 to {dataset.count}"
            )
    else:
        chosen = _default_bands(path, dataset)
    dtypes = {dataset.dtypes[band - 1] for band in chosen}
    if any(name.startswith("complex") for name in dtypes):
        raise InputError(f"{path}: holds complex numbers, not intensities; take their amplitude first")
    if len(dtypes) > 1:
        raise InputError(
            f"{path}: bands {','.join(map(str, chosen))} are of different types "
            f"({', '.join(sorted(dtypes))}); choose bands of one type with --bands"
        )
    if dataset.colorinterp[chosen[0] - 1] == ColorInterp.palette:
        raise InputError(
            f"{path}: holds colour indices, not colours; expand it with gdal_translate -expand rgb"
        )
    red, green, blue = chosen if len(chosen) == 3 else chosen * 3
    return red, green, blue


def _default_bands(path: str, dataset: Any) -> tuple[int, ...]:
    meaning = list(dataset.colorinterp)
    if all(colour in meaning for colour in COLOURS):
        return tuple(meaning.index(colour) + 1 for colour in COLOURS)
    plain = [band for band, kind in enumerate(meaning, start=1) if kind != ColorInterp.alpha]
    if len(plain) >= 3:
        return tuple(plain[:3])
    if len(plain) == 1:
        return (plain[0],)
    raise InputError(
        f"{path}: has {len(plain)} bands, expected one, or three and more; "
        "choose with --bands, for example --bands 1 to use one band alone"
    )


def always_valid(dataset: Any, bands: Sequence[int]) -> bool:
    """Whether the file says that all pixels hold data, in a type that has no NaN."""
    return all(
        MaskFlags.all_valid in dataset.mask_flag_enums[band - 1]
        and np.issubdtype(np.dtype(dataset.dtypes[band - 1]), np.integer)
        for band in bands
    )


def valid_pixels(
    dataset: Any,
    bands: Sequence[int],
    values: NDArray[Any],
    window: tuple[tuple[int, int], tuple[int, int]],
    nodata: float | None,
) -> NDArray[np.bool_]:
    """Which pixels ``(h, w)`` hold data.

    As GDAL's dataset mask: a pixel is missing if all its bands are. NaN in
    any band makes it missing too, for no network can take it.

    Parameters
    ----------
    bands, values
        Different band numbers and what was read of them, ``(C, h, w)``.
    window
        The native rows and columns that were read (possibly decimated).
    nodata
        Value that means no data; None follows the file: its nodata value,
        alpha band or mask.
    """
    valid = np.ones(values.shape[1:], dtype=bool)
    if nodata is not None:
        valid = ~(np.isnan(values) if np.isnan(nodata) else values == nodata).all(axis=0)
    elif any(MaskFlags.all_valid not in dataset.mask_flag_enums[band - 1] for band in bands):
        masks = dataset.read_masks(list(bands), window=window, out_shape=values.shape)
        valid = (masks > 0).any(axis=0)
    if np.issubdtype(values.dtype, np.floating):
        valid &= np.isfinite(values).all(axis=0)
    return valid
