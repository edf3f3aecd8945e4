"""Recognise whose files lie at a path, and find the files that a model is read from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from domainsam.errors import CheckpointError, WeightsError
from domainsam.tensorfile import is_safetensors, read_metadata
from domainsam.vocabularies import VocabularySpec, WordFile, find_vocabularies
from domainsam.weights import FOLDER_VARIABLE, list_search_folders

HEADER, ENTRY = "domainsam", "vocabulary"
"""Where the header of a file of ours says whose it is: ``{"vocabulary": "samclip", ...}``."""


def identify(path: Path) -> str:
    """Name of the model whose file or folder lies at ``path``.

    Raises
    ------
    CheckpointError
        If it is no known model's, or cannot be read.
    """
    rows = find_vocabularies()
    found = _identify_folder(path, rows) if path.is_dir() else _identify_file(path, rows)
    if found is None:
        kinds = ", ".join(row.name for row in rows.values())
        raise CheckpointError(
            f"{path}: is the file or folder of no known model of words; if you know whose it is, say so: "
            f"NAME:{path} with a name of {kinds}"
        )
    return found


def _identify_folder(path: Path, rows: dict[str, VocabularySpec]) -> str | None:
    config = path / "config.json"
    if config.is_file():
        try:
            kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
            raise CheckpointError(f"{config}: cannot be read as JSON; fetch the folder again") from error
        for row in rows.values():
            known = (row.model_type,) if isinstance(row.model_type, str) else row.model_type or ()
            if kind in known:
                return row.name
    held = [row for row in rows.values() if row.holds and all((path / name).is_file() for name in row.holds)]
    return held[0].name if held else None


def _identify_file(path: Path, rows: dict[str, VocabularySpec]) -> str | None:
    if is_safetensors(path) and (told := read_header(path).get(ENTRY)) in rows:
        return str(told)
    if path.suffix not in (".safetensors", ".pt", ".pth", ".bin"):
        return None
    from domainsam.foundation.loading import read_tensors

    marked = [row for row in rows.values() if row.marks is not None]
    if not marked:
        return None
    shapes = {name: tuple(value.shape) for name, value in read_tensors(path).items()}
    return next((row.name for row in marked if row.marks is not None and row.marks.fit(shapes)), None)


def read_header(path: Path) -> dict[str, Any]:
    """What a safetensors file of ours says of itself; empty for other files."""
    try:
        told = json.loads(read_metadata(path).get(HEADER, "{}"))
    except json.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}


def find_file(model: str, wanted: WordFile, folder: Path | None = None) -> Path:
    """Path of a file that a model needs: in ``folder``, or where weight files are looked for.

    Raises
    ------
    WeightsError
        If it is nowhere; the text says what to download, and where to put it.
    """
    folders = [*([] if folder is None else [folder]), *list_search_folders()]
    for place in folders:
        for name in (wanted.file, *wanted.also):
            if (place / name).is_file():
                return place / name
    source = (
        f"download {wanted.url} ({wanted.megabytes} MB)" if wanted.url else "none is published: train one"
    )
    raise WeightsError(
        f"{model} needs {wanted.file}, which is not in {' or '.join(map(str, folders))}: {source}, put it "
        f"there, or give the folder that holds it as {model}:FOLDER, or set ${FOLDER_VARIABLE}"
    )
