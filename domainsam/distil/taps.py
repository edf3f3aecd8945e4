"""Features from within encoders: of each block of a plain transformer, of each stage of a pyramid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from domainsam.errors import ConfigError
from domainsam.foundation.base import FrozenFoundation
from domainsam.foundation.encoders.edge_sam import EdgeSamEncoder
from domainsam.foundation.encoders.vit import SamImageEncoder
from domainsam.protocols import Features, Foundation

ENCODERS = ("image_encoder", "encoder")
"""What foundations' networks call their image encoder."""


def find_encoder(network: Any) -> nn.Module | None:
    """The image encoder of a foundation's network, None where it is called otherwise."""
    found = (getattr(network, name, None) for name in ENCODERS)
    return next((one for one in found if isinstance(one, nn.Module)), None)


@contextmanager
def tap(encoder: nn.Module) -> Iterator[list[Tensor]]:
    """While it lasts, an encoder's run leaves its layers' features in the list, the first layer's first.

    They are ``(B, C, h, w)``, or ``(B, N, C)`` of encoders that keep patches in a sequence.
    """
    seen: list[Tensor] = []
    hooks = []

    def keep_output(_: nn.Module, __: Any, given: Any) -> None:
        seen.extend(given if isinstance(given, (list, tuple)) else [given])

    def keep_input(_: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append(given[0].movedim(-1, 1))

    def keep_map(_: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append(given[0])

    if isinstance(encoder, SamImageEncoder):
        # Its blocks are run piece by piece: what one gives is what the next one's norm is given.
        blocks: Any = encoder.blocks
        hooks += [block.norm1.register_forward_pre_hook(keep_input) for block in list(blocks)[1:]]
        neck: Any = encoder.neck
        hooks.append(neck.register_forward_pre_hook(keep_map))
    else:
        hooks += [module.register_forward_hook(keep_output) for module in _layers(encoder)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _layers(encoder: Any) -> Sequence[nn.Module]:
    """Modules whose outputs are an encoder's layers."""
    blocks = getattr(encoder, "blocks", None)
    if blocks is not None:
        return list(blocks)
    trunk = getattr(encoder, "trunk", None) or getattr(encoder, "backbone", None)
    if trunk is None:
        raise ConfigError(f"the layers of {type(encoder).__name__} are not known: choose another recipe")
    if isinstance(encoder, EdgeSamEncoder):
        return [*trunk.stages[:3], trunk.stages[3].blocks]
    return list(trunk.stages) if hasattr(trunk, "stages") else [trunk]


def as_map(layer: Tensor, grid: tuple[int, int]) -> Tensor:
    """A layer's features as ``(B, C, h, w)``; ``grid`` is that of the patches of a sequence."""
    return layer if layer.ndim == 4 else layer.transpose(1, 2).reshape(len(layer), -1, *grid)


class TappedTeacher:
    """A foundation whose features hold its last layers too, behind its levels, to be cached with them.

    Parameters
    ----------
    foundation
        The teacher.
    count
        Layers that are wanted: the last ones, which are nearest the output.

    Raises
    ------
    ConfigError
        If nobody knows its layers, or it has fewer.
    """

    def __init__(self, foundation: Foundation, count: int) -> None:
        self.foundation, self.count = foundation, count
        self.name, self.image_size = foundation.name, foundation.image_size
        self.sha256 = f"{foundation.sha256}+{count} layers"
        network = foundation.model if isinstance(foundation, FrozenFoundation) else None
        self._encoder = find_encoder(network)
        if self._encoder is None:
            raise ConfigError(f"the layers of {foundation.name} are not known: choose another recipe")
        images = torch.zeros(1, 3, 64, 64, device=foundation.device)
        found = len(self._run(images)[1])
        if found < count:
            raise ConfigError(
                f"{foundation.name} has {found} layers and the student {count}: choose another recipe"
            )

    @property
    def device(self) -> Any:
        """Where it computes."""
        return self.foundation.device

    def _run(self, images: Tensor) -> tuple[Features, list[Tensor]]:
        assert self._encoder is not None
        with torch.no_grad(), tap(self._encoder) as seen:
            features = self.foundation.encode(images)
        grid = (features.image.shape[-2], features.image.shape[-1])
        return features, [as_map(layer, grid).float() for layer in seen]

    def encode(self, images: Tensor) -> Features:
        """The foundation's features, its last layers behind the levels."""
        features, layers = self._run(images)
        return Features(features.image, (*features.levels, *layers[-self.count :]), features.size)

    def embed(self, *given: Any) -> Tensor:
        """As the foundation's."""
        return self.foundation.embed(*given)

    def decode(self, *given: Any, **named: Any) -> Any:
        """As the foundation's."""
        return self.foundation.decode(*given, **named)


def split_layers(
    teach: Callable[[Tensor], Features], images: Tensor, count: int
) -> tuple[Features, list[Tensor]]:
    """Features and layers of what a tapped teacher, or its cache, gives."""
    given = teach(images)
    levels = given.levels
    plain = Features(given.image, levels[: len(levels) - count], given.size)
    return plain, list(levels[len(levels) - count :])
