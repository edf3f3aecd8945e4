"""The organ networks: a specialist alone, and a ladder beside a frozen encoder with a token per organ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from domainsam.errors import ConfigError
from domainsam.foundation.norms import find_merged
from domainsam.protocols import Features, Foundation
from domainsam.side.classes import ClassDecoder, Tokens
from domainsam.side.ladder import Ladder, LadderConfig
from domainsam_ct.model.specialist import Specialist
from domainsam_ct.settings import Method

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
    tokens, ladder
        Of the ladder.
        Tokens: ``"random"`` leaves class tokens and hypernetworks random and frozen, as
        released; ladder: see :class:`domainsam.side.ladder.LadderConfig`.
    encoding
        What the frozen encoder is given: ``"usual"``, the foundation's own
        way; ``"published"``, as SAM-LST's code: slices in 0 to 1 without SAM's
        statistics, the position code resized bilinearly.
    method
        ``"specialist"``: trunk and head alone; ``"ladder"``: SAM-LST's, beside a frozen foundation.
    trunk, width
        Of the specialist alone: a timm backbone by name, and the channels of its pyramid.
    """

    neighbours: int = 0
    tokens: Tokens = "trained"
    ladder: LadderConfig = field(default_factory=LadderConfig)
    encoding: Literal["usual", "published"] = "usual"
    method: Method = "ladder"
    trunk: str = "efficientnet_lite0"
    width: int = 48

    def __post_init__(self) -> None:
        if self.neighbours not in (0, 1):
            raise ConfigError(f"neighbours is {self.neighbours}, expected 0 or 1")
        if not 8 <= self.width <= 1024:
            raise ConfigError(f"width is {self.width}, expected 8 to 1024 channels")


def spread_channels(slices: Tensor) -> Tensor:
    """Slices ``(B, 1 or 3, H, W)`` as three channels."""
    return slices if slices.shape[1] == 3 else slices.expand(-1, 3, -1, -1)


class SpecialistNetwork(nn.Module):
    """Windowed slices to one map of logits an organ, by trunk and head alone.

    Parameters
    ----------
    config
        What is built.
    classes
        Number of organs and the background.
    """

    foundation = None

    def __init__(self, config: NetworkConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        self.specialist = Specialist(config.trunk, config.width, classes)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.specialist.out.weight.device

    def merge_norms(self) -> SpecialistNetwork:
        """The network itself, with its batch norms in its convolutions: only to answer, which is quicker."""
        self.specialist = find_merged(self.specialist, self.device)
        return self

    def arrange_weights(self, dtype: torch.dtype) -> SpecialistNetwork:
        """The network itself; depthwise convolutions are twice as fast with channels last."""
        return self.to(memory_format=torch.channels_last)

    def encode(self, slices: Tensor) -> None:
        """Nothing: there is no frozen encoder."""

    def forward(self, slices: Tensor, features: Features | None = None) -> Tensor:
        """Logits ``(B, classes, H/2, W/2)``; ``slices`` as :meth:`OrganNetwork.forward` takes them."""
        logits: Tensor = self.specialist(spread_channels(slices))
        return logits

    def describe(self, slices: Tensor) -> Tensor:
        """Features ``(B, width, H/2, W/2)`` that the logits are made from."""
        described: Tensor = self.specialist.describe(spread_channels(slices))
        return described


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

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.foundation.device

    def merge_norms(self) -> OrganNetwork:
        """The network itself: what is trained of it has no batch norms, and the foundation merges its own."""
        return self

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
        logits: Tensor = self.decoder(self.ladder.refine(spread_channels(slices), features))
        return logits


AnyNetwork = OrganNetwork | SpecialistNetwork


def build_network(config: NetworkConfig, foundation: Foundation | None, classes: int) -> AnyNetwork:
    """The network of a configuration, its weights random.

    Raises
    ------
    ConfigError
        If a ladder has no foundation to stand beside.
    """
    if config.method == "specialist":
        return SpecialistNetwork(config, classes)
    if foundation is None:
        raise ConfigError("the ladder stands beside a foundation, and there is none: name one")
    return OrganNetwork(config, foundation, classes)
