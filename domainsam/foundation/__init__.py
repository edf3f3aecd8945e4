"""Frozen promptable foundations (SAM, SAM 2, the embedded ones) behind one interface.

:func:`load_foundation` is the only door, :func:`load_decoder` goes through it as
options say. Importing this package is cheap: a foundation's module, and with it
torch, is imported when it is asked for.
"""

from __future__ import annotations

import json
import logging
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from domainsam.errors import WeightsError
from domainsam.foundations import FOUNDATIONS, FoundationSpec, find_foundations, name_folder
from domainsam.keywords import RUNTIMES, check_choice
from domainsam.licences import tell_once
from domainsam.machine import Precision, choose_device, choose_precision
from domainsam.plugins import import_attribute

if TYPE_CHECKING:
    import torch

    from domainsam.protocols import Foundation

__all__ = [
    "COMPANION",
    "DEFAULT",
    "FOUNDATIONS",
    "FoundationSpec",
    "find_foundations",
    "load_decoder",
    "load_foundation",
]

log = logging.getLogger(__name__)

DEFAULT = "embedded_lite"
"""What answers prompts where none is named."""
COMPANION = "embedded"
"""What specialists are trained beside where none is named; those that are shipped were."""
RETIRED = {"embedded_fast": "embedded_lite, which answers better in two thirds of the time of embedded"}
"""Names of earlier versions, and what to take now."""

SHORT = ("_b+", "_base_plus")
"""SAM 2's own short form of a name, and the one in its files' names."""


def load_foundation(
    name_or_path: str | Path = DEFAULT,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    compile: bool = False,
    runtime: str = "torch",
) -> Foundation:
    """A frozen foundation by name, or from a weight file whose tensors tell which one it is.

    Parameters
    ----------
    name_or_path
        A name in :func:`domainsam.foundations.find_foundations`, or the path of an official checkpoint
        (``.pth``, ``.pt``), of the same tensors as safetensors, or of a file
        written by :func:`domainsam.foundation.embedded.save_embedded`; or a folder that
        ``domainsam export`` wrote. A foundation whose weights are a folder of Hugging Face's layout is
        named by the folder or by ``NAME:FOLDER``.
    device
        Where it computes.
    dtype
        ``torch.float32`` (also what None means), ``torch.bfloat16`` or
        ``torch.float16``: the type of the large matrix products. Features,
        tokens and masks are float32 whatever it is.
    compile
        Compile the image encoder with ``torch.compile``.
    runtime
        Who computes: ``"torch"``, or ``"onnx"`` or ``"openvino"``, for which the foundation is exported
        on first use (:mod:`domainsam.foundation.runtimes`). A folder is computed by what it was made for.

    Raises
    ------
    ConfigError
        If there is no such runtime, or it cannot compute this foundation.
    DependencyError
        If the runtime is not installed.
    WeightsError
        If the name is unknown or its weight file is nowhere to be found.
    CheckpointError
        If the file is damaged, unsafe, or fits no known foundation.
    """
    import torch

    check_choice("runtime", runtime, RUNTIMES)
    where, kind = torch.device(device), dtype or torch.float32
    if runtime == "torch" and (found := _find_folder(str(name_or_path))) is not None:
        row, folder = found
        if row.notice:
            tell_once(row.notice)
        read: Foundation = import_attribute(row.loader)(row.name, folder, where, kind, compile)
        return read
    if Path(name_or_path).is_dir() and str(name_or_path) not in FOUNDATIONS:
        from domainsam.foundation.exported import load_exported

        exported = load_exported(Path(name_or_path), None if runtime == "torch" else runtime, where, kind)
        if exported.facts.notice:
            tell_once(exported.facts.notice)
        return exported
    if runtime != "torch":
        from domainsam.foundation.runtimes import attach

        return attach(load_foundation(name_or_path), runtime, where, kind)
    name, path, own = str(name_or_path), None, False
    if name.endswith(SHORT[0]):
        name = name.replace(*SHORT)
    # Other packages are asked only for a name that is not ours.
    rows = FOUNDATIONS if name in FOUNDATIONS else find_foundations()
    if name not in rows:
        path = Path(name_or_path)
        if not path.is_file():
            if name in RETIRED:
                raise WeightsError(f"{name} is no longer shipped: take {RETIRED[name]}")
            near = get_close_matches(name, rows, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise WeightsError(
                f"no foundation or weight file {name!r}; {hint}known names: {', '.join(rows)}; "
                "otherwise give the path of a weight file"
            )
        from domainsam.foundation.loading import identify, is_own

        name, own = identify(path), is_own(path)
    row = rows[name]
    if row.notice and not own:
        tell_once(row.notice)
    file = row.weights
    if path is None and file is not None and file.url and file.sha256 is None:
        _tell_checksum(row)
    loader = import_attribute(row.loader)
    foundation: Foundation = loader(name, path, where, kind, compile)
    return foundation


def _find_folder(text: str) -> tuple[FoundationSpec, Path] | None:
    """The row and the folder of a ``NAME:FOLDER``, or of a folder that says whose it is; None for others.

    Raises
    ------
    WeightsError
        If there is no folder behind the colon.
    """
    name, colon, rest = text.partition(":")
    if colon and rest and name in FOUNDATIONS and FOUNDATIONS[name].folder:
        folder = Path(rest).expanduser()
        if not folder.is_dir():
            raise WeightsError(f"{name}: there is no folder {rest!r}; check the path after the colon")
        return FOUNDATIONS[name], folder
    config = Path(text) / "config.json"
    if text in FOUNDATIONS or not config.is_file():
        return None
    try:
        kind = json.loads(config.read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return None
    found = name_folder(kind)
    return None if found is None else (find_foundations()[found], config.parent)


def _tell_checksum(row: FoundationSpec) -> None:
    """Tell, once, the checksum of a file that none is published for."""
    from domainsam.weights import find_weights, record_first_use

    path = find_weights(row.name)
    if found := record_first_use(row.name, path):
        log.warning(
            "no checksum of %s is published: the sha256 of %s is %s; compare it with a source you trust",
            row.name,
            path,
            found,
        )


def load_decoder(
    name_or_path: str | Path | None, device: str = "auto", precision: str = "auto", runtime: str = "torch"
) -> tuple[Foundation, Precision]:
    """A foundation for prompts, as options name it, and the precision that it computes in.

    Parameters
    ----------
    name_or_path
        As of :func:`load_foundation`; None for :data:`DEFAULT`.
    device, precision, runtime
        As ``--device``, ``--precision`` and ``--runtime``.

    Raises
    ------
    WeightsError, CheckpointError, DependencyError
        As :func:`load_foundation`.
    ConfigError
        If the device is unknown or absent.
    """
    import torch

    where = choose_device(device)
    chosen = choose_precision(precision, where)
    name = name_or_path or DEFAULT
    return load_foundation(name, where, getattr(torch, chosen), runtime=runtime), chosen
