"""Pair scenes with their label files and predictions by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from domainsam.errors import InputError, MissingInputError

RASTERS = (".tif", ".tiff", ".vrt", ".img", ".jp2", ".png")
VECTORS = (".gpkg", ".parquet", ".geojson", ".json", ".fgb", ".shp")
_LABEL_ENDINGS = ("_mask", "_label", "_labels")
_ANSWER_ENDINGS = ("_probability", "_prob", "_settlements", "_mask")


@dataclass(frozen=True)
class Scene:
    """A scene file and the name it goes by in tables."""

    path: Path
    name: str

    @property
    def base(self) -> str:
        """Stem without the ``_image`` that marks images beside masks."""
        return self.path.stem.removesuffix("_image")


def find_scenes(inputs: Iterable[Path | str]) -> tuple[Scene, ...]:
    """Scenes of files and folders, in order of name, each once; masks beside them are not scenes.

    Raises
    ------
    MissingInputError
        If a path does not exist, or a folder holds no raster.
    """
    paths: list[Path] = []
    for given in map(Path, inputs):
        if given.is_dir():
            rasters = [path for path in given.iterdir() if path.suffix.lower() in RASTERS]
            found = sorted(path for path in rasters if not path.stem.endswith(_LABEL_ENDINGS))
            if not found:
                raise MissingInputError(f"folder '{given}' holds no scene: expected files such as *.tif")
            paths.extend(found)
        elif given.exists() or str(given).startswith("/vsi"):
            paths.append(given)
        else:
            raise MissingInputError(f"scene '{given}' does not exist: check the path")
    unique = list(dict.fromkeys(path.absolute() for path in paths))
    stems = [path.stem for path in unique]
    return tuple(
        Scene(path, path.stem if stems.count(path.stem) == 1 else f"{path.parent.name}/{path.stem}")
        for path in unique
    )


def find_labels(scene: Scene, labels: Path) -> Path:
    """The label file of a scene: ``labels`` itself, or the file in that folder that has the scene's name.

    Raises
    ------
    InputError
        If a folder holds none; the message names what was looked for.
    """
    return _of(scene, labels, ("_mask", "_label", "_labels", ""), "labels")


def find_answer(scene: Scene, answers: Path) -> Path:
    """The prediction of a scene: ``answers`` itself, or the file in that folder that has the scene's name.

    Raises
    ------
    InputError
        If a folder holds none; the message names what was looked for.
    """
    return _of(scene, answers, (*_ANSWER_ENDINGS, ""), "prediction")


def is_vector(path: Path) -> bool:
    """Whether a file is one of polygons, by its extension."""
    return path.suffix.lower() in VECTORS


def _of(scene: Scene, given: Path, endings: tuple[str, ...], what: str) -> Path:
    if not given.exists():
        raise MissingInputError(f"{what} '{given}' does not exist: check the path")
    if given.is_file():
        return given
    stems = dict.fromkeys(base + ending for ending in endings for base in (scene.base, scene.path.stem))
    for stem in stems:
        for extension in (*RASTERS, *VECTORS):
            path = given / (stem + extension)
            if path.is_file() and path.absolute() != scene.path.absolute():
                return path
    raise InputError(
        f"no {what} for scene '{scene.path.name}' in '{given}': expected a file such as "
        f"{scene.base}{endings[0]}.tif, {scene.base}.tif or {scene.base}.gpkg"
    )
