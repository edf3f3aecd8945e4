"""Signatures of the weights inside the packages: a file beside each, checked with the project's public key.

They are made and read by ``model-signing`` (a sigstore bundle around an in-toto
statement, ECDSA on P-256, no transparency log), so that its own command checks
them too. Nothing here touches the network.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from domainsam.errors import PROJECT, WeightsError
from domainsam.packs import find_packs
from domainsam.weights import file_sha256

PUBLIC_KEY = Path(__file__).parent / "keys" / "weights.pub"
SUFFIX = ".sig"
"""A signature is named after its file: ``abdomen.safetensors.sig``."""

Proof = Literal["signature", "checksum"]
"""``checksum`` where ``model-signing`` is not installed: damage is found, forgery is not."""


def shipped_weights() -> dict[str, Path]:
    """Weight files inside this distribution's packages, by name; no package is imported."""
    core = Path(__file__).parent
    folders = [core / "foundation" / "weights", core / "vocabulary" / "weights", *_pack_folders()]
    files = (path for folder in folders for path in sorted(folder.glob("*.safetensors")))
    return {path.stem: path for path in files}


def _pack_folders() -> Iterator[Path]:
    for entry in find_packs().values():
        # The key is ours: a stranger's pack may sign with its own.
        if entry.dist is None or entry.dist.name != PROJECT:
            continue
        spec = find_spec(entry.module.partition(".")[0])
        for place in (spec.submodule_search_locations or ()) if spec else ():
            yield Path(place) / "weights"


def verify_shipped(path: Path, key: Path = PUBLIC_KEY) -> Proof:
    """Check a weight file against the signature beside it.

    Returns
    -------
    What it was checked by.

    Raises
    ------
    WeightsError
        If the signature is absent or unreadable, was made with another key, or is of another file.
    """
    signature = path.with_name(path.name + SUFFIX)
    if not signature.is_file():
        raise WeightsError(f"{path} has no signature {signature.name} beside it: install domainsam again")
    try:
        from model_signing import verifying
    except ImportError:
        _check_digest(path, signature)
        return "checksum"
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(path, signature)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(
            f"{path} is not the file that was signed ({reason[:80]}): install domainsam again"
        ) from error
    return "signature"


def _check_digest(path: Path, signature: Path) -> None:
    """Compare the file with the checksum that its signature states, whoever wrote it."""
    try:
        envelope = json.loads(signature.read_text())["dsseEnvelope"]
        statement = json.loads(base64.b64decode(envelope["payload"]))
        (resource,) = statement["predicate"]["resources"]
        stated = resource["digest"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{signature} is no signature of one file: install domainsam again") from error
    if stated != file_sha256(path):
        raise WeightsError(f"{path} is not the file that was signed: install domainsam again")
