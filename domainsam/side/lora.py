"""Low-rank updates of the queries and values of a frozen attention (Hu et al. 2021).

One set of updates for all inputs, as MemorySAM has it, or one set for each
sensor ("expert"), as MLE-SAM has it. The frozen layer is neither changed nor
owned: only the updates are parameters.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.errors import ConfigError

Width = Literal["full", "published"]
Module = TypeVar("Module", bound=nn.Module)


class LowRank(nn.Module):
    """Updates of the queries and values of one fused layer, for ``E`` experts.

    No scale and no bias, as in MemorySAM's code; the upper matrices begin at
    zero, so that an untrained update changes nothing.

    Parameters
    ----------
    inner, outer
        Width of what enters the layer, and of its queries.
    rank
        Of the updates.
    experts
        Number of sets of updates.
    width
        ``"full"`` updates all queries and all values. ``"published"`` updates
        ``inner`` channels of each, as MemorySAM's code does: half of them in
        the three blocks of Hiera that double the width.
    """

    def __init__(self, inner: int, outer: int, rank: int, experts: int = 1, width: Width = "full") -> None:
        super().__init__()
        reach = outer if width == "full" else inner
        self.down_q, self.down_v = (nn.Parameter(torch.empty(experts, rank, inner)) for _ in range(2))
        self.up_q, self.up_v = (nn.Parameter(torch.zeros(experts, reach, rank)) for _ in range(2))
        for down in (self.down_q, self.down_v):
            for expert in down:
                nn.init.kaiming_uniform_(expert, a=math.sqrt(5))

    def forward(self, x: Tensor, experts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Updates of queries and values ``(N, ..., reach)`` of ``x`` ``(N, ..., inner)``.

        ``x`` is as many equal blocks as there are ``experts``, one after the other.
        """
        return self._update(x, self.down_q, self.up_q, experts), self._update(
            x, self.down_v, self.up_v, experts
        )

    @staticmethod
    def _update(x: Tensor, down: Tensor, up: Tensor, experts: tuple[int, ...]) -> Tensor:
        if len(experts) == 1:
            return F.linear(F.linear(x, down[experts[0]]), up[experts[0]])
        chosen = list(experts)
        blocks = x.reshape(len(experts), -1, x.shape[-1])
        low = torch.bmm(blocks, down[chosen].transpose(1, 2))
        return torch.bmm(low, up[chosen].transpose(1, 2)).view(*x.shape[:-1], -1)


class Choice:
    """Which expert the blocks of a batch belong to; shared by all layers of one encoder."""

    def __init__(self) -> None:
        self.experts: tuple[int, ...] = (0,)

    @contextmanager
    def of(self, experts: tuple[int, ...]) -> Iterator[None]:
        """Within this, the batch is as many equal blocks as there are ``experts``."""
        before, self.experts = self.experts, experts
        try:
            yield
        finally:
            self.experts = before


class UpdatedQkv(nn.Module):
    """A frozen fused layer of queries, keys and values, with its update on top."""

    def __init__(self, qkv: nn.Module, update: LowRank, choice: Choice) -> None:
        super().__init__()
        self.qkv, self.update, self.choice = qkv, update, choice

    def forward(self, x: Tensor) -> Tensor:
        plain: Tensor = self.qkv(x)
        queries, values = self.update(x, self.choice.experts)
        rest = plain.shape[-1] - queries.shape[-1] - values.shape[-1]
        middle = queries.new_zeros(1).expand(*queries.shape[:-1], rest)
        return plain + torch.cat([queries, middle, values], dim=-1)


def copy_structure(module: Module) -> Module:
    """A copy of a module's structure that shares its tensors, so that layers can be put around some."""
    tensors = chain(module.parameters(), module.buffers())
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


def add_updates(
    trunk: nn.Module, rank: int, experts: int = 1, width: Width = "full"
) -> tuple[nn.Module, nn.ModuleList, Choice]:
    """A replica of a Hiera trunk whose attentions are updated; the updates, a block each; and the choice.

    Raises
    ------
    ConfigError
        If the trunk has no blocks with a fused layer of queries, keys and values.
    """
    trunk = copy_structure(trunk)
    blocks = getattr(trunk, "blocks", None)
    if not isinstance(blocks, nn.ModuleList) or not all(hasattr(block.attn, "qkv") for block in blocks):
        raise ConfigError(
            f"low-rank updates need an encoder of attention blocks as SAM 2's, not {type(trunk).__name__}"
        )
    updates, choice = nn.ModuleList(), Choice()
    block: Any
    for block in blocks:
        qkv = block.attn.qkv
        update = LowRank(qkv.in_features, qkv.out_features // 3, rank, experts, width)
        block.attn.qkv = UpdatedQkv(qkv, update, choice)
        updates.append(update)
    return trunk, updates, choice


PUBLISHED_NAMES = {
    "down_q": "linear_a_q",
    "up_q": "linear_b_q",
    "down_v": "linear_a_v",
    "up_v": "linear_b_v",
}
"""Names of one block's updates in MemorySAM's checkpoints, below ``blocks.{i}.attn.qkv``."""


def convert_published(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """One shared set of updates, taken out of MemorySAM's names, as an update list names them.

    ``prefix`` is what comes before the number of the block, such as
    ``sam.image_encoder.trunk.blocks.``.
    """
    ours: dict[str, Tensor] = {}
    for name, theirs in PUBLISHED_NAMES.items():
        end = f".attn.qkv.{theirs}.weight"
        for key, value in tensors.items():
            if key.startswith(prefix) and key.endswith(end):
                ours[f"{key.removeprefix(prefix).removesuffix(end)}.{name}"] = value[None]
    return ours
