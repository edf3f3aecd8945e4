"""Trained model files: safetensors with a header that names pack, labels, foundation and recipe.

Only trained tensors are stored, never the frozen foundation's. The header is
JSON under the metadata key ``domainsam``. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from domainsam import __version__
from domainsam.documents import check_document, list_parts, shorten
from domainsam.errors import CheckpointError, WeightsError, one_line
from domainsam.limits import tell_moment
from domainsam.names import show
from domainsam.protocols import Foundation
from domainsam.tensorfile import (
    halve,
    is_safetensors,
    load_strict,
    read_metadata,
    read_safetensors,
    write_safetensors,
)

FORMAT_VERSION = 1
METADATA_KEY = "domainsam"
PICKLE_STARTS = (b"PK\x03\x04", b"\x80")
"""First bytes of torch.save's zip archive and of a bare pickle, protocol 2 and later."""
JSON_TYPES = {"labels": list, "config": dict, "metrics": dict, "format_version": int, "knows": dict}
"""What JSON makes of the header's fields; those not named are texts."""
MOST_HEADER = 4 << 20
MOST_LABELS, LONGEST_LABEL = 1024, 200
"""Classes of a model, and letters of one's name; labels of masks are bytes."""
LARGEST_SIZE = 1 << 13
"""Widths, depths and pixels of networks stay far below."""
NO_FOUNDATION = "none"
"""In the place of a foundation's name in the header of a model that needs none."""
DIGEST_SHOWN = 12
"""Hexadecimal digits of a digest that people are shown."""


def _now() -> str:
    return tell_moment().isoformat(timespec="seconds")


@dataclass(frozen=True)
class CheckpointHeader:
    """What a model file says of itself.

    Parameters
    ----------
    pack
        Name of the domain pack it was trained for.
    foundation, foundation_sha256
        Name and digest of the frozen foundation it was trained on.
    labels
        Class names, background first.
    config
        The configuration it was built and trained with, as nested tables.
    metrics
        Scores on the validation blocks, by name.
    knows
        What the training data were like, :meth:`domainsam.familiar.Known.table`; empty if not told.
        Left out of the file where empty, so that files of earlier releases have the same keys.
    format_version
        Version of this format; readers accept their own only.
    domainsam_version
        The release that wrote it.
    created
        When, as ISO 8601 in UTC.
    """

    pack: str
    foundation: str
    foundation_sha256: str
    labels: tuple[str, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    domainsam_version: str = __version__
    created: str = field(default_factory=_now)
    knows: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model file: its header and its tensors on the CPU, by name."""

    path: Path
    header: CheckpointHeader
    tensors: Mapping[str, Tensor]

    def restore(self, module: nn.Module, prefix: str) -> None:
        """Fill a module with the tensors whose names start with ``prefix.``, cast to its types.

        Raises
        ------
        CheckpointError
            Naming tensors that are missing, left over, or of another shape.
        """
        load_strict(module, strip_prefix(self.tensors, prefix), str(self.path))


def collect_tensors(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """A module's tensors, their names beginning with ``prefix.``."""
    return {f"{prefix}.{name}": tensor.detach() for name, tensor in module.state_dict().items()}


def strip_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix.``, under the rest of their names."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def save(path: Path, tensors: Mapping[str, Tensor], header: CheckpointHeader, half: bool = False) -> None:
    """Write a model file; it appears under its name only when complete.

    ``half`` stores floats as float16, which halves the file.

    Raises
    ------
    CheckpointError
        If ``half`` is asked for and a value is not finite in float16.
    OutputError
        If it cannot be written; an earlier file of that name is then untouched.
    """
    values = asdict(header)
    if not values["knows"]:
        del values["knows"]
    text = json.dumps(values, sort_keys=True)
    write_safetensors(path, halve(tensors) if half else tensors, {METADATA_KEY: text})


def load(path: Path, pack: str, foundation: Foundation | None = None) -> Checkpoint:
    """Read a model file and check what it fits on.

    Parameters
    ----------
    path
        A file written by :func:`save`.
    pack
        The domain pack that wants it.
    foundation
        The foundation it will be used with; None if it will not be used with any.

    Raises
    ------
    CheckpointError
        If the file is absent, damaged, a pickle, of another format version
        or pack, or was trained on another foundation.
    """
    header = read_header(path)
    if header.pack != pack:
        raise CheckpointError(f"{path} is a model of pack {header.pack!r}, expected one of pack {pack!r}")
    if foundation is not None and header.foundation_sha256 != foundation.sha256:
        raise CheckpointError(
            f"{path} was trained on {_named(header.foundation, header.foundation_sha256)} but is used with "
            f"{_named(foundation.name, foundation.sha256)}: load that foundation, or train again on this one"
        )
    return Checkpoint(path, header, read_safetensors(path))


def note_known(path: Path, known: Mapping[str, Any]) -> None:
    """Write into the header of a trained model what its training data were like, its tensors untouched.

    Parameters
    ----------
    known
        :meth:`domainsam.familiar.Known.table`.

    Raises
    ------
    CheckpointError
        If the file is absent, damaged, a pickle, or of another format version.
    OutputError
        If it cannot be written; the file is then as it was.
    """
    save(path, read_safetensors(path), replace(read_header(path), knows=dict(known)))


def read_header(path: Path) -> CheckpointHeader:
    """The header alone, for instance to learn which foundation to load.

    Raises
    ------
    CheckpointError
        If the file is absent, damaged, a pickle, or of another format version.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
        # The length that begins a safetensors file may start with the same byte as a pickle.
        pickled = start.startswith(PICKLE_STARTS) and not is_safetensors(path)
    except OSError as error:
        raise CheckpointError(
            f"model file {path} cannot be read ({error.strerror}): give a file that training wrote"
        ) from error
    if pickled:
        raise CheckpointError(f"{path} is a pickle, which could run any code: give a safetensors model file")
    return _parse_header(path, read_metadata(path).get(METADATA_KEY))


def _named(name: str, digest: str) -> str:
    return f"foundation {name!r} (sha256 {digest[:DIGEST_SHOWN]})"


def _parse_header(path: Path, text: str | None) -> CheckpointHeader:
    if text is None:
        raise CheckpointError(
            f"{path} holds tensors but no domainsam header: give a file that training wrote"
        )
    if len(text) > MOST_HEADER:
        raise CheckpointError(f"the header of {path} has {len(text)} letters, more than {MOST_HEADER}")
    try:
        values = check_document(json.loads(text), f"the header of {path}", "a model's header")
        version = values["format_version"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"the header of {path} cannot be read: {one_line(error)[:160]}") from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}, this domainsam reads {FORMAT_VERSION}: "
            "install the version that wrote it, or train again"
        )
    kinds = {item.name: JSON_TYPES.get(item.name, str) for item in fields(CheckpointHeader)}
    values.setdefault("knows", {})
    if set(values) != set(kinds):
        raise CheckpointError(f"the header of {path} has keys {sorted(values)}, expected {sorted(kinds)}")
    unfit = [name for name, kind in kinds.items() if not isinstance(values[name], kind)]
    if unfit:
        raise CheckpointError(f"the header of {path} has values of a wrong type: {', '.join(unfit)}")
    _check_sizes(path, values)
    return CheckpointHeader(**{**values, "labels": tuple(_plain(label) for label in values["labels"])})


def _check_sizes(path: Path, values: Mapping[str, Any]) -> None:
    """Refuse labels and sizes of networks beyond any that there are."""
    labels = values["labels"]
    if len(labels) > MOST_LABELS or any(len(str(label)) > LONGEST_LABEL for label in labels):
        raise CheckpointError(
            f"the header of {path} names {len(labels)} labels; expected at most {MOST_LABELS} of "
            f"{LONGEST_LABEL} letters at most"
        )
    level: list[Any] = [table for name, table in values["config"].items() if name != "training"]
    while level:
        large = [value for value in level if isinstance(value, int) and abs(value) > LARGEST_SIZE]
        if large:
            raise CheckpointError(f"the header of {path} gives {shorten(large[0])} as a size of the network")
        level = [part for value in level for part in list_parts(value)]


def _plain(label: object) -> str:
    """A label on one line; it goes into tables, charts, pages and names of files."""
    return " ".join(show(str(label)).split())


def model_file(path: Path | None, shipped: Path, pack: str, what: str) -> Path:
    """The model file that was named, else the one inside the package.

    Parameters
    ----------
    path
        What was named; None for the package's own.
    shipped
        Where that lies, if it is there.
    pack, what
        The pack's name and what its model is, ``"settlement"`` for instance, for the message.

    Raises
    ------
    WeightsError
        If none was named and the package has none.
    """
    if path is None and not shipped.is_file():
        raise WeightsError(
            f"this installation has no {what} model ({shipped.name} is not in the package): "
            f"name one with --model, or train one with `domainsam {pack} train`"
        )
    return path or shipped
