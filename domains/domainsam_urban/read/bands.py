"""Choose a raster's bands, valid pixels and scaling."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags

from domainsam.errors import InputError

COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
COLOUR_WORDS = (frozenset({"red", "r"}), frozenset({"green", "g"}), frozenset({"blue", "b"}))
"""Words by which descriptions of bands name the three."""


def choose_bands(path: str, dataset: Any, asked: Sequence[int] | None) -> tuple[int, int, int]:
    """Band numbers, from 1, of red, green and blue.

    Parameters
    ----------
    asked
        Three numbers, or one that is used three times. None: red, green and
        blue as the bands' descriptions name them, else as the file colours
        them; else the first three bands that are not alpha; else the only one.

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


def describe_choice(dataset: Any, bands: Sequence[int]) -> str | None:
    """A line on bands that were chosen for a person; None where nobody would choose others."""
    numbers = ", ".join(map(str, bands))
    named = find_named_bands(dataset.descriptions)
    if named is not None:
        if named == (1, 2, 3) or tuple(bands) != named:
            return None
        names = ", ".join(dataset.descriptions[band - 1] for band in bands)
        return f"bands {numbers} are taken for red, green, blue by their names ({names}); others with --bands"
    coloured = all(colour in dataset.colorinterp for colour in COLOURS)
    plain = [kind for kind in dataset.colorinterp if kind != ColorInterp.alpha]
    if coloured or len(plain) <= len(COLOURS):
        return None
    return (
        f"has {len(plain)} bands and does not say which are red, green and blue: {numbers} are taken for "
        "them; others with --bands"
    )


def find_named_bands(descriptions: Sequence[str | None]) -> tuple[int, int, int] | None:
    """Band numbers, from 1, of red, green and blue by their descriptions; None unless each is named once."""
    found = []
    for colour in COLOUR_WORDS:
        named = [
            band
            for band, words in enumerate(descriptions, start=1)
            if words and colour & set(re.split(r"[^a-z]+", words.lower())) and "edge" not in words.lower()
        ]
        if len(named) != 1:
            return None
        found.append(named[0])
    red, green, blue = found
    return red, green, blue


def is_mask_band(dataset: Any) -> bool:
    """Whether the file's alpha band is one: GDAL calls the fourth of four bytes so, whatever its name."""
    words = [
        (dataset.descriptions[band] or "").lower()
        for band, kind in enumerate(dataset.colorinterp)
        if kind == ColorInterp.alpha
    ]
    return not any(words) or any("alpha" in text or "mask" in text for text in words)


def _default_bands(path: str, dataset: Any) -> tuple[int, ...]:
    named = find_named_bands(dataset.descriptions)
    if named is not None:
        return named
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


def is_always_valid(dataset: Any, bands: Sequence[int]) -> bool:
    """Whether the file says that all pixels hold data, in a type that has no NaN."""
    return all(
        not _is_masked(dataset, band) and np.issubdtype(np.dtype(dataset.dtypes[band - 1]), np.integer)
        for band in bands
    )


def _is_masked(dataset: Any, band: int) -> bool:
    flags = dataset.mask_flag_enums[band - 1]
    if MaskFlags.alpha in flags and not is_mask_band(dataset):
        return False
    return MaskFlags.all_valid not in flags


def find_valid_pixels(
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
    elif any(_is_masked(dataset, band) for band in bands):
        masks = dataset.read_masks(list(bands), window=window, out_shape=values.shape)
        valid = (masks > 0).any(axis=0)
    if np.issubdtype(values.dtype, np.floating):
        valid &= np.isfinite(values).all(axis=0)
    return valid


Rule = Literal["dtype", "scene"]

PERCENTILES = (2.0, 98.0)
"""Limits of the stretch: the usual cumulative cut of desktop GIS, blind to glints and dead pixels."""


@dataclass(frozen=True)
class Radiometry:
    """Linear scaling of three bands.

    A value ``low`` becomes 0 and ``high`` becomes 1; what lies beyond is
    clipped. ``rule`` says where the limits come from: the data type's range
    or the scene's percentiles.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    rule: Rule

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Raw values ``(C, H, W)`` scaled to float32 0..1; values that are not finite become 0."""
        low = np.asarray(self.low, dtype=np.float32)[:, None, None]
        span = np.asarray(self.high, dtype=np.float32)[:, None, None] - low
        scaled = np.asarray(values, dtype=np.float32) - low
        # Fill such as -3.4e38 has no place in the scale, and is left out by its mask.
        with np.errstate(over="ignore"):
            scaled /= span
        if np.issubdtype(values.dtype, np.floating):
            np.nan_to_num(scaled, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
        return np.clip(scaled, 0, 1, out=scaled)

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers and lists, for run metadata."""
        return {"low": list(self.low), "high": list(self.high), "rule": self.rule}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Radiometry:
        """The inverse of :meth:`to_dict`.

        Raises
        ------
        InputError
            If a part is missing or not of the right kind.
        """
        try:
            low = tuple(float(value) for value in values["low"])
            high = tuple(float(value) for value in values["high"])
            rule = values["rule"]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"radiometry needs the lists 'low' and 'high' and a 'rule', got {dict(values)}"
            ) from error
        ascending = len(low) == len(high) and all(one < other for one, other in zip(low, high, strict=True))
        if not ascending or rule not in ("dtype", "scene"):
            raise InputError(
                f"radiometry needs low < high in every band and a known rule, got {dict(values)}"
            )
        return cls(low, high, cast(Rule, rule))


def choose_rule(dtype: np.dtype[Any], normalize: str) -> Rule:
    """The rule that ``normalize`` (auto, scene or dtype) means for a data type.

    ``auto`` takes 8-bit imagery as it is, because it has been prepared for
    display already, and stretches everything else.

    Raises
    ------
    InputError
        If ``normalize`` is none of the three.
    """
    if normalize == "auto":
        return "dtype" if dtype == np.uint8 else "scene"
    if normalize not in ("scene", "dtype"):
        raise InputError(f"normalize is {normalize!r}, expected auto, scene or dtype")
    return "dtype" if normalize == "dtype" else "scene"


def make_full_range(dtype: np.dtype[Any], bands: int) -> Radiometry:
    """Scaling by a data type's range: 0 to the largest integer; floats are taken as 0..1 already."""
    high = float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else 1.0
    return Radiometry((0.0,) * bands, (high,) * bands, "dtype")


def stretch(samples: Sequence[NDArray[Any]]) -> Radiometry:
    """Scaling by percentiles of each band's valid samples (1-d arrays).

    A constant band is given some width, so that it becomes 0 throughout.
    """
    low, high = [], []
    for values in samples:
        finite = values[np.isfinite(values)].astype(np.float64)
        first, last = np.percentile(finite, PERCENTILES) if finite.size else (0.0, 1.0)
        low.append(float(first))
        high.append(
            float(last)
            if np.float32(last) > np.float32(first)
            else float(first) + max(1.0, abs(float(first)))
        )
    return Radiometry(tuple(low), tuple(high), "scene")
