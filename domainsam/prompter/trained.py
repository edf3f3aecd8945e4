"""Prompters to and from model files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from domainsam.checkpoint import CheckpointHeader, collect_tensors, load, save
from domainsam.config import from_table, to_table
from domainsam.prompter.segformer import PrompterConfig, SegFormerPrompter
from domainsam.protocols import Foundation

PREFIX = "prompter"


def save_prompter(
    path: Path,
    prompter: SegFormerPrompter,
    foundation: Foundation,
    pack: str,
    labels: tuple[str, ...],
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
    half: bool = False,
    knows: Mapping[str, Any] | None = None,
) -> None:
    """Write a trained prompter; ``config`` holds the pack's own tables beside ``prompter``.

    ``knows`` is what the training data were like, see :func:`domainsam.familiar.learn_known`;
    ``half`` stores float16, which halves the file; loading gives float32 again.

    Raises
    ------
    CheckpointError
        If ``half`` is asked for and a weight is not finite in float16.
    OutputError
        If the file cannot be written.
    """
    header = CheckpointHeader(
        pack=pack,
        foundation=foundation.name,
        foundation_sha256=foundation.sha256,
        labels=labels,
        config={**config, PREFIX: to_table(prompter.config)},
        metrics=metrics,
        knows=knows or {},
    )
    save(path, collect_tensors(prompter, PREFIX), header, half)


def begin_from(prompter: SegFormerPrompter, path: Path, pack: str, foundation: Foundation) -> None:
    """Fill a prompter with another model's weights before it is trained further, in place.

    The SegFormer is always taken. What speaks to the foundation (mixer, gate)
    is taken as well where the model was trained on the same foundation with
    the same parts; elsewhere it means nothing and starts anew.

    Raises
    ------
    CheckpointError
        If the file is damaged, of another pack or format version, or its
        SegFormer is of another size.
    """
    checkpoint = load(path, pack)
    other = from_table(PrompterConfig, checkpoint.header.config.get(PREFIX, {}), f"header of {path}")
    same_parts = (other.mixer, other.fusion) == (prompter.config.mixer, prompter.config.fusion)
    if same_parts and checkpoint.header.foundation_sha256 == foundation.sha256:
        checkpoint.restore(prompter, PREFIX)
        return
    checkpoint.restore(prompter.encoder, f"{PREFIX}.encoder")
    checkpoint.restore(prompter.head, f"{PREFIX}.head")


def load_prompter(
    path: Path, pack: str, foundation: Foundation | None = None
) -> tuple[SegFormerPrompter, CheckpointHeader]:
    """A trained prompter in evaluation mode on the CPU, and its file's header.

    Raises
    ------
    CheckpointError
        If the file is damaged, a pickle, of another pack or format version,
        was trained on another foundation, or its tensors do not fit.
    ConfigError
        If its header asks for a prompter that this version cannot build.
    """
    checkpoint = load(path, pack, foundation)
    config = from_table(PrompterConfig, checkpoint.header.config.get(PREFIX, {}), f"header of {path}")
    prompter = SegFormerPrompter(config)
    checkpoint.restore(prompter, PREFIX)
    return prompter.eval(), checkpoint.header
