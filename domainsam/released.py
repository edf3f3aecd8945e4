"""Turn released checkpoints of published systems into model files, every tensor accounted for.

A pack that can names a function under ``convert`` in its
:class:`~domainsam.packs.DomainPack`; it is given a :class:`Ledger` and says
None where the checkpoint is none of its systems.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from domainsam.errors import CheckpointError
from domainsam.protocols import Foundation
from domainsam.tensorfile import list_names

TOLERANCE = 1e-4
"""Greatest difference of a frozen tensor to the foundation's, as a part of its largest value."""


@dataclass(frozen=True)
class ConvertOptions:
    """What a checkpoint does not say.

    Parameters
    ----------
    out
        The model file.
    foundation
        Name or file of the frozen generalist; by default the published one.
    labels
        Class names, by default those of the data set with so many classes.
    modalities
        Sensors, in the order in which the checkpoint was trained on them.
    overwrite
        Whether a file may be replaced.
    """

    out: Path
    foundation: str | None = None
    labels: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    overwrite: bool = False


@dataclass(frozen=True)
class Converted:
    """What was made of a checkpoint.

    ``taken`` tensors went into the model file, ``equal`` ones agree with the
    frozen foundation, and ``unused`` says by reason which are not needed.
    """

    system: str
    out: Path
    pack: str
    foundation: str
    taken: int
    equal: int
    unused: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()

    def sentence(self) -> str:
        """All of it in a line for a person."""
        left = "; ".join(f"{len(names)} not needed ({reason})" for reason, names in self.unused.items())
        return (
            f"{self.system}: {self.taken} tensors taken, {self.equal} equal to the frozen {self.foundation}"
            f"{'; ' if left else ''}{left}"
        )


def list_frozen(foundation: Foundation) -> dict[str, Tensor]:
    """The foundation's tensors under their official names; none where it keeps no network."""
    network: Any = getattr(foundation, "model", None)
    return {} if network is None else dict(network.state_dict())


@dataclass
class Ledger:
    """The tensors of a checkpoint, and what became of each."""

    source: str
    tensors: Mapping[str, Tensor]
    taken: dict[str, str] = field(default_factory=dict)
    equal: set[str] = field(default_factory=set)
    unused: dict[str, list[str]] = field(default_factory=dict)
    differing: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The checkpoint's name, without the folder that it lay in."""
        return Path(self.source).name

    def left(self) -> list[str]:
        """Names of tensors that nothing has become of yet."""
        done = {*self.taken, *self.equal, *self.differing}.union(*self.unused.values())
        return [name for name in self.tensors if name not in done]

    def take(self, names: Mapping[str, str], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by the names that they get; ``names`` says which, ``wanted`` what a network expects.

        Raises
        ------
        CheckpointError
            If one has another shape than is wanted.
        """
        found: dict[str, Tensor] = {}
        for theirs, ours in names.items():
            value = self.tensors[theirs]
            if value.shape != wanted[ours].shape:
                raise CheckpointError(
                    f"{self.source}: {theirs} is {tuple(value.shape)}, expected {tuple(wanted[ours].shape)}"
                )
            found[ours] = value
            self.taken[theirs] = ours
        return found

    def leave(self, reason: str, names: Iterable[str]) -> None:
        """Tensors that are known not to be needed."""
        self.unused.setdefault(reason, []).extend(names)

    def compare(self, names: Mapping[str, Tensor]) -> None:
        """Frozen tensors, which must be what the foundation has: by their name the foundation's own."""
        for name, own in names.items():
            value, own = self.tensors[name].float(), own.detach().float().cpu()
            near = TOLERANCE * max(1e-6, float(own.abs().max())) if own.numel() else 0.0
            same = value.shape == own.shape and torch.allclose(value, own, rtol=0.0, atol=near)
            if same:
                self.equal.add(name)
            else:
                self.differing.append(name)

    def close(self, foundation: str, missing: Sequence[str]) -> None:
        """Refuse what does not work out.

        Parameters
        ----------
        foundation
            What frozen tensors were compared with.
        missing
            Names in the network that no tensor was found for.

        Raises
        ------
        CheckpointError
            If frozen tensors differ, some are unknown, or some are missing.
        """
        if self.differing:
            raise CheckpointError(
                f"{self.source}: {len(self.differing)} frozen tensors are not those of {foundation} "
                f"({list_names(self.differing)}); name the one that it was trained on with --foundation"
            )
        if left := self.left():
            raise CheckpointError(f"{self.source}: holds tensors that nobody knows: {list_names(left)}")
        if missing:
            raise CheckpointError(f"{self.source}: lacks tensors of the model: {list_names(missing)}")

    def summary(self, system: str, out: Path, pack: str, foundation: str, notes: Sequence[str]) -> Converted:
        """What was made of it."""
        unused = {reason: tuple(names) for reason, names in self.unused.items() if names}
        return Converted(
            system, out, pack, foundation, len(self.taken), len(self.equal), unused, tuple(notes)
        )
