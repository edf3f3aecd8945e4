"""The organ network: a ladder beside a frozen encoder, and a decoder with a token per organ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from domainsam.errors import ConfigError
from domainsam.protocols import Features, Foundation
from domainsam.side.classes import ClassDecoder, Tokens
from domainsam.side.ladder import Ladder, LadderConfig

PREFIX = "organs"
"""What names of its tensors begin with in a model file."""


@dataclass(frozen=True)
class NetworkConfig:
    """What is built.

    Parameters
    ----------
    neighbours
        Slices on either side that the specialist sees as further channels: 0
        (the slice three times, as published) or 1. The frozen encoder always
        sees the slice itself, three times.
    tokens
        ``"random"`` leaves class tokens and hypernetworks random and frozen, as released.
    ladder
        See :class:`domainsam.side.ladder.LadderConfig`.
    encoding
        What the frozen encoder is given: ``"usual"``, the foundation's own
        way; ``"published"``, as SAM-LST's code: slices in 0 to 1 without SAM's
        statistics, the position code resized bilinearly.
    """

    neighbours: int = 0
    tokens: Tokens = "trained"
    ladder: LadderConfig = field(default_factory=LadderConfig)
    encoding: Literal["usual", "published"] = "usual"

    def __post_init__(self) -> None:
        if self.neighbours not in (0, 1):
            raise ConfigError(f"neighbours is {self.neighbours}, expected 0 or 1")


class OrganNetwork(nn.Module):
    """Windowed slices to one map of logits an organ.

    The foundation is no part of it: it is neither trained, nor moved, nor saved.

    Parameters
    ----------
    config
        What is built.
    foundation
        Frozen; its decoder is what the organ decoder begins as.
    classes
        Number of organs and the background.
    """

    def __init__(self, config: NetworkConfig, foundation: Foundation, classes: int) -> None:
        super().__init__()
        self.config = config
        self.foundation = foundation
        self.ladder = Ladder(config.ladder)
        self.decoder = ClassDecoder(foundation, classes, config.tokens)

    def arrange_weights(self, dtype: torch.dtype) -> OrganNetwork:
        """The network itself, its weights laid out for computing in ``dtype``."""
        # Convolutions in 16 bits are twice as fast with channels last; in 32 bits it makes no difference.
        layout = torch.contiguous_format if dtype == torch.float32 else torch.channels_last
        return self.to(memory_format=layout)

    @torch.no_grad()
    def encode(self, slices: Tensor) -> Features:
        """The frozen encoder's features of slices as :meth:`forward` takes them."""
        middle = slices[:, slices.shape[1] // 2, None]
        return self.encode_pictures(middle.expand(-1, 3, -1, -1))

    @torch.no_grad()
    def encode_pictures(self, pictures: Tensor) -> Features:
        """The frozen encoder's features of pictures ``(B, 3, H, W)`` in 0 to 1, as the configuration has it.

        A foundation that knows no way without statistics is asked in its own.
        """
        plain = getattr(self.foundation, "encode_plain", None)
        if self.config.encoding == "published" and plain is not None:
            features: Features = plain(pictures)
            return features
        return self.foundation.encode(pictures)

    def forward(self, slices: Tensor, features: Features | None = None) -> Tensor:
        """Logits ``(B, classes, H/4, W/4)``.

        Parameters
        ----------
        slices
            ``(B, 1 or 3, H, W)`` in 0 to 1: the slice, or the one below, itself and the one above.
        features
            From :meth:`encode`, where they are at hand already.
        """
        if features is None:
            features = self.encode(slices)
        images = slices if slices.shape[1] == 3 else slices.expand(-1, 3, -1, -1)
        logits: Tensor = self.decoder(self.ladder.refine(images, features))
        return logits
