"""What a file of weights is, in facts that a person wants to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

ENDINGS = (".safetensors", ".pth", ".pt", ".ckpt")
"""Endings of files of weights."""


def is_weight_file(path: Path) -> bool:
    """Whether a file's name says that it holds weights."""
    return path.is_file() and path.suffix.lower() in ENDINGS


def describe_weights(path: Path) -> dict[str, object]:
    """Facts about a model file, a foundation's weights, or a checkpoint.

    Raises
    ------
    CheckpointError
        If it is damaged.
    """
    from domainsam.checkpoint import DIGEST_SHOWN, METADATA_KEY, read_header
    from domainsam.tensorfile import is_safetensors, read_metadata

    if is_safetensors(path) and METADATA_KEY in read_metadata(path):
        header = read_header(path)
        return {
            "what": f"model of the {header.pack} pack, for --model",
            "foundation": f"{header.foundation} (sha256 {header.foundation_sha256[:DIGEST_SHOWN]})"
            if header.foundation_sha256
            else "none",
            "classes": f"{len(header.labels)}: {', '.join(header.labels)}",
            **_told_by(header.config),
            "scores": ", ".join(f"{name} {value:.3f}" for name, value in header.metrics.items())
            or "none kept",
            "made by": f"domainsam {header.domainsam_version}, {header.created}",
            "size": f"{path.stat().st_size / 1e6:.1f} MB",
        }
    return _describe_tensors(path)


def _told_by(config: Mapping[str, Any]) -> dict[str, object]:
    """What configurations of packs say that a user chooses by."""
    facts: dict[str, object] = {}
    network = config.get("network", {})
    if network.get("modalities"):
        facts["sensors"] = ", ".join(network["modalities"])
        facts["method"] = network.get("method", "unknown")
        if network.get("method") == "specialist":
            facts["trunk"] = network.get("trunk", "unknown")
    reading = config.get("reading", {})
    told = [f"{name}={low:g},{high:g}" for name, (low, high) in reading.get("ranges", {}).items()]
    if told:
        facts["ranges"] = "; ".join(told)
    if reading.get("bands"):
        facts["bands"] = "; ".join(
            f"{name}={','.join(map(str, of))}" for name, of in reading["bands"].items()
        )
    if config.get("scene", {}).get("resolution"):
        facts["pixel on the ground"] = f"{config['scene']['resolution']:g} m"
    if config.get("converted"):
        facts["converted from"] = config["converted"]
    return facts


def _describe_tensors(path: Path) -> dict[str, object]:
    from domainsam import foundations
    from domainsam.foundation.loading import read_tensors
    from domainsam.weights import file_sha256, published

    tensors = read_tensors(path, inert=True)
    name = foundations.identify({key: tuple(value.shape) for key, value in tensors.items()})
    facts: dict[str, object] = {
        "what": f"weights of {name}, for --foundation"
        if name
        else "a checkpoint; see domainsam weights convert",
        "tensors": f"{len(tensors)}, {sum(value.numel() for value in tensors.values()) / 1e6:.2f} M numbers",
        "size": f"{path.stat().st_size / 1e6:.1f} MB",
    }
    known = published().get(name or "")
    if known is not None:
        same = file_sha256(path) == known.sha256
        facts["checksum"] = "that of the published file" if same else "another than the published file's"
    return facts
