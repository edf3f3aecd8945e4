"""Label maps: which mask value is which organ, with SNOMED CT codes and colours."""

from __future__ import annotations

import colorsys
import re
import tomllib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from domainsam.documents import parse_toml, read_toml
from domainsam.errors import ConfigError, MissingInputError

SHIPPED = ("synapse", "btcv", "totalsegmentator")
"""Label maps inside the package, by name."""
DEFAULT = "synapse"

SCT = "SCT"
"""DICOM's designator of SNOMED CT (PS3.16, table 8-1)."""
MOST_LABELS = 65535
"""Values of a mask of 16 bits."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_GREY = "#b0b0b0"
_KEYS = {"code", "meaning", "side", "category", "colour", "form"}
THIN = "thin"
"""The one form that an entry may tell."""


@dataclass(frozen=True)
class Code:
    """A concept of SNOMED CT."""

    value: str
    meaning: str
    scheme: str = SCT


ANATOMICAL = Code("123037004", "Anatomical Structure")
ALTERED = Code("49755003", "Morphologically Altered Structure")
SIDES = {"left": Code("7771000", "Left"), "right": Code("24028007", "Right")}
"""Laterality modifiers (DICOM PS3.16, context group 244)."""


@dataclass(frozen=True)
class Organ:
    """One structure.

    Parameters
    ----------
    name
        As TotalSegmentator writes it: ``kidney_left`` is the patient's left.
    code
        What it is; None where the user's label map does not say.
    category
        What sort of thing it is.
    side
        Laterality modifier, None for what is not one of a pair.
    colour
        Red, green, blue, 0 to 255.
    thin
        Whether it is so thin that networks find it in pieces.
    """

    name: str
    code: Code | None = None
    category: Code = ANATOMICAL
    side: Code | None = None
    colour: tuple[int, int, int] = (176, 176, 176)
    thin: bool = False

    @property
    def title(self) -> str:
        """The name as a person reads it: ``Kidney, left``."""
        words = self.name.replace("_", " ")
        if self.side is not None:
            side = self.side.meaning.lower()
            rest = " ".join(word for word in words.split() if word != side)
            words = f"{rest}, {side}"
        return words[:1].upper() + words[1:]


LabelMap = dict[int, Organ]


def check_name(name: str) -> bool:
    """Whether a name may stand in a file's name: letters, digits, ``_``, ``-`` and ``.`` alone."""
    return _NAME.fullmatch(name) is not None


@cache
def load_catalogue() -> Mapping[str, Organ]:
    """Every structure that the package knows, by name."""
    text = files("domainsam_ct").joinpath("organs.toml").read_text(encoding="utf-8")
    return {name: _organ(name, entry, "organs.toml") for name, entry in tomllib.loads(text).items()}


def find_organ(name: str) -> Organ:
    """What is known of a name; where nothing is, the name itself in a colour that follows from it."""
    return load_catalogue().get(name) or Organ(name, colour=_choose_colour(name))


def _choose_colour(name: str) -> tuple[int, int, int]:
    """Vivid, for outlines on grey pictures: the same for the same name."""
    hue = zlib.crc32(name.encode()) / 2**32
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.65, 1.0))
    return red, green, blue


def match_name(name: str) -> str:
    """The catalogue's name for what another tool calls ``"Left kidney"``; else the name itself."""
    if name in load_catalogue():
        return name
    return _names_by_words().get(_words(name), name)


def _words(name: str) -> tuple[str, ...]:
    return tuple(sorted(re.findall(r"[a-z0-9]+", name.lower())))


@cache
def _names_by_words() -> Mapping[tuple[str, ...], str]:
    return {_words(name): name for name in load_catalogue()}


def load_label_map(name_or_path: str | Path) -> LabelMap:
    """A label map inside the package, or one of the user's.

    A file has a table ``[labels]`` of ``name = value`` with values from 1 on.
    A name that the catalogue does not know may be explained in
    ``[organs.NAME]`` with ``code`` and ``meaning`` (SNOMED CT), ``side``
    (``"left"`` or ``"right"``) and ``colour`` (``"#rrggbb"``).

    Raises
    ------
    MissingInputError
        If it is neither a shipped name nor a file.
    ConfigError
        If the file is no TOML, or does not say what it should.
    """
    if str(name_or_path) in SHIPPED:
        resource = files("domainsam_ct").joinpath("label_maps", f"{name_or_path}.toml")
        return _parse(resource.read_text(encoding="utf-8"), f"{name_or_path}.toml")
    path = Path(name_or_path)
    if not path.is_file():
        raise MissingInputError(
            f"label map '{name_or_path}' is neither a file nor one of {', '.join(SHIPPED)}: check the path"
        )
    return _parse_tables(read_toml(path, "a label map"), path.name)


def make_label_map(names: Iterable[str]) -> LabelMap:
    """The label map of a model's ``names``: index = value, the first is background."""
    return {value: find_organ(name) for value, name in enumerate(names) if value > 0}


def name_classes(labels: LabelMap) -> tuple[str, ...]:
    """A model's names of its classes: the background, then the organs in the order of their values."""
    return ("background", *(labels[value].name for value in sorted(labels)))


def choose_organs(labels: LabelMap, wanted: Iterable[str]) -> LabelMap:
    """The organs of those names, with their values.

    Raises
    ------
    ConfigError
        If a name is not among them.
    """
    values = {organ.name: value for value, organ in labels.items()}
    names = list(dict.fromkeys(wanted))
    unknown = [name for name in names if name not in values]
    if unknown:
        raise ConfigError(f"organ '{unknown[0]}' is not among those there are: {', '.join(values)}")
    return {values[name]: labels[values[name]] for name in names}


def _parse(text: str, where: str) -> LabelMap:
    return _parse_tables(parse_toml(text, where, "a label map"), where)


def _parse_tables(document: Mapping[str, Any], where: str) -> LabelMap:
    table = document.get("labels")
    if not isinstance(table, dict) or not table or set(document) - {"labels", "organs"}:
        raise ConfigError(
            f"label map '{where}' must hold a table [labels] of name = value, "
            "and may hold [organs.NAME], nothing else"
        )
    own = {name: _organ(name, entry, where) for name, entry in _table(document, "organs", where).items()}
    if len(table) > MOST_LABELS:
        raise ConfigError(f"label map '{where}' has {len(table)} names, expected at most {MOST_LABELS}")
    labels: LabelMap = {}
    for name, value in table.items():
        _check_entry(name, value, labels, where)
        labels[value] = own.get(name) or find_organ(name)
    return dict(sorted(labels.items()))


def _table(document: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    found = document.get(key, {})
    if not isinstance(found, dict):
        raise ConfigError(f"label map '{where}': [{key}] must be a table")
    return found


def _check_entry(name: str, value: object, labels: LabelMap, where: str) -> None:
    """A name becomes a file name, a value a voxel of 16 bits."""
    if not check_name(name):
        raise ConfigError(f"label map '{where}': '{name}' may hold only letters, digits, '_', '-' and '.'")
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise ConfigError(f"label map '{where}': {name} = {value!r} must be a whole number from 1 to 65535")
    if value in labels:
        raise ConfigError(f"label map '{where}': {name} and {labels[value].name} both have value {value}")


def _organ(name: str, entry: object, where: str) -> Organ:
    if (
        not isinstance(entry, dict)
        or set(entry) - _KEYS
        or not all(isinstance(v, str) for v in entry.values())
    ):
        raise ConfigError(f"'{where}': [organs.{name}] may hold the texts {', '.join(sorted(_KEYS))} only")
    side, colour = entry.get("side"), entry.get("colour", _GREY)
    if side is not None and side not in SIDES:
        raise ConfigError(f"'{where}': side of {name} is '{side}', expected left or right")
    if not _COLOUR.fullmatch(colour):
        raise ConfigError(f"'{where}': colour of {name} is '{colour}', expected #rrggbb")
    if entry.get("form", THIN) != THIN:
        raise ConfigError(f"'{where}': form of {name} is '{entry['form']}', expected {THIN} or nothing")
    if ("code" in entry) != ("meaning" in entry):
        raise ConfigError(f"'{where}': {name} needs both code and meaning, or neither")
    return Organ(
        name,
        Code(entry["code"], entry["meaning"]) if "code" in entry else None,
        ALTERED if entry.get("category") == "altered" else ANATOMICAL,
        None if side is None else SIDES[side],
        (int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)),
        "form" in entry,
    )
