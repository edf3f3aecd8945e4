"""The same foundation, computed by another runtime, from files that are made on first use and kept."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import torch

import domainsam
from domainsam.errors import ConfigError, OutputError
from domainsam.foundation.export import export_foundation, require_runtime
from domainsam.foundation.exported import FORMAT, load_exported
from domainsam.private import Claim, sweep
from domainsam.protocols import Foundation
from domainsam.weights import find_user_cache

log = logging.getLogger(__name__)

DIGITS = 16
"""Of a foundation's SHA-256 in the name of a folder of the cache."""


def attach(foundation: Foundation, runtime: str, device: torch.device, dtype: torch.dtype) -> Foundation:
    """The foundation with ``encode``, ``embed`` and ``decode`` computed by a runtime.

    Its network stays for those who build on its decoder, as organ models do.

    Parameters
    ----------
    foundation
        On the CPU, in float32.

    Raises
    ------
    ConfigError, CheckpointError, DependencyError
        As :func:`domainsam.foundation.export.export_foundation`.
    OutputError
        If the cache folder cannot be written.
    """
    exported = load_exported(find_or_export(foundation, runtime), runtime, device, dtype)
    twin: Any = copy.copy(foundation)
    twin.model.to(device)
    vars(twin).update(encode=exported.encode, embed=exported.embed, decode=exported.decode, runtime=runtime)
    if hasattr(twin, "encode_plain"):
        vars(twin)["encode_plain"] = _refuse_plain
    attached: Foundation = twin
    return attached


def _refuse_plain(*_: object) -> Any:
    raise ConfigError(
        "this model feeds the encoder images without its statistics, which exported graphs take out: "
        "use --runtime torch"
    )


def find_or_export(foundation: Foundation, runtime: str) -> Path:
    """Folder of the user's cache with the foundation's graphs, made if it is not there.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    name = f"{foundation.name}-{foundation.sha256[:DIGITS]}-{domainsam.__version__}.{FORMAT}-{runtime}"
    folder = find_user_cache() / "exports" / name
    if folder.is_dir():
        return folder
    require_runtime(runtime)
    log.warning("%s is exported for %s, once, to %s", foundation.name, runtime, folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent)
        room = Claim(folder.parent)
    except OSError as error:
        raise OutputError(
            f"cannot write '{folder.parent}' ({error.strerror}): export with 'domainsam export' into another "
            "folder and give that as --foundation"
        ) from error
    with room as place:
        scratch = place / name
        scratch.mkdir()
        export_foundation(foundation, scratch, runtime)
        try:
            scratch.replace(folder)
        except OSError:
            # Another process was faster; its files say the same.
            if not folder.is_dir():
                raise
    return folder
