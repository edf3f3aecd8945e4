"""Writing one scene's answer: map, probability, confidence and contributions."""

from __future__ import annotations

import colorsys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from domainsam.errors import OutputError
from domainsam.io.rasters import RASTER_ERRORS, reason, silence_rasterio
from domainsam_scene.model.predict import NODATA, ScenePrediction


@dataclass(frozen=True)
class Answer:
    """A prediction and the names that its numbers stand for."""

    prediction: ScenePrediction
    labels: tuple[str, ...]


def write_answer(kind: str, path: Path, answer: Answer) -> None:
    """Write one kind of output: ``map``, ``probability``, ``confidence`` or ``contribution``.

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    try:
        _WRITERS[kind](path, answer)
    except (*RASTER_ERRORS, OSError) as error:
        raise OutputError(
            f"cannot write '{path.name}' ({reason(error)}): free some space, or choose another folder"
        ) from error


def make_colour_table(labels: tuple[str, ...]) -> dict[int, tuple[int, int, int, int]]:
    """Colours by class number with their opacity; 255 is transparent."""
    colours: Sequence[Colour] = choose_class_colours(labels)
    table = {index: (*colour, 255) for index, colour in enumerate(colours)}
    return {**table, NODATA: (*UNKNOWN, 0)}


def make_class_tags(labels: tuple[str, ...]) -> dict[str, str]:
    """Class names by number, as tags of a raster."""
    return {f"CLASS_{index}": label for index, label in enumerate(labels)}


def _write_map(path: Path, answer: Answer) -> None:
    _write_bands(path, answer.prediction.labels[None], (), make_colour_table(answer.labels))


def _write_confidence(path: Path, answer: Answer) -> None:
    _write_bands(path, answer.prediction.confidence[None], ())


def _write_probability(path: Path, answer: Answer) -> None:
    write_arrays(
        path,
        {
            "probability": answer.prediction.probability,
            "labels": np.array(answer.labels),
        },
    )


def _write_contribution(path: Path, answer: Answer) -> None:
    parts = answer.prediction.contribution
    if path.suffix.lower() == ".npz":
        write_arrays(path, dict(parts))
    else:
        _write_bands(path, np.stack(list(parts.values())), tuple(parts))


_WRITERS = {
    "map": _write_map,
    "confidence": _write_confidence,
    "probability": _write_probability,
    "contribution": _write_contribution,
}


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Arrays by name as ``.npz``, compressed and without a date, so that equal arrays make equal files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def _write_bands(
    path: Path,
    bands: NDArray[np.uint8],
    names: tuple[str, ...],
    colours: Mapping[int, tuple[int, int, int, int]] | None = None,
) -> None:
    png = path.suffix.lower() == ".png"
    profile: dict[str, Any] = {
        "driver": "PNG" if png else "GTiff",
        "dtype": "uint8",
        "count": len(bands),
        "height": bands.shape[1],
        "width": bands.shape[2],
        "nodata": NODATA,
    }
    if not png:
        profile |= {"compress": "deflate", "tiled": True, "blockxsize": 256, "blockysize": 256}
    with (
        rasterio.Env(GDAL_PAM_ENABLED=False),
        silence_rasterio(),
        rasterio.open(path, "w", **profile) as made,
    ):
        if colours is not None:
            made.write_colormap(1, dict(colours))
        made.write(bands)
        if names and not png:
            made.descriptions = names


Colour = tuple[int, int, int]

UNKNOWN: Colour = (0, 0, 0)
"""Pixels that no sensor saw, or that nobody judges."""
GOLDEN = 0.618033988749895
"""Steps of the golden ratio spread hues evenly, however many there are."""


def choose_class_colours(labels: tuple[str, ...]) -> tuple[Colour, ...]:
    """The published colours of a known list of classes, else distinct hues in a fixed order."""
    from domainsam_scene.generated.scenes import CLASSES, COLOURS
    from domainsam_scene.read.layouts import find_published_colours

    known = {CLASSES: COLOURS, **find_published_colours()}
    return known.get(labels) or tuple(_hue(index) for index in range(len(labels)))


def _hue(index: int) -> Colour:
    lightness, saturation = ((0.5, 0.65), (0.68, 0.6), (0.36, 0.7))[index // 3 % 3]
    channels = colorsys.hls_to_rgb((0.58 + index * GOLDEN) % 1, lightness, saturation)
    red, green, blue = (round(255 * channel) for channel in channels)
    return red, green, blue
