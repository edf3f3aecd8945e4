"""Mixers: how pooled image features join the sparse prompt tokens.

Both published variants of UV-SAM (Zhang et al. 2024, "UV-SAM: Adapting
Segment Anything Model for Urban Village Identification", section "Prompt
mixer"). They receive sparse tokens and two pooled feature vectors a prompt
and return tokens that take the place of the given ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TOKEN_WIDTH = 256
"""Width of SAM's prompt tokens."""
HIDDEN_WIDTH = 512


def pooled(features: Tensor) -> Tensor:
    """Global average of ``(B, C, h, w)`` features, scaled to unit length: ``(B, C)``."""
    return F.normalize(features.mean(dim=(2, 3)), dim=1)


class MlpMixer(nn.Module):
    """A perceptron over each token and both pooled features.

    ``cat(token / |token|, foundation, specialist)`` of width 768 goes to 512,
    ReLU and 256, without biases and with Xavier initialisation, as published.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * TOKEN_WIDTH, HIDDEN_WIDTH, bias=False)
        self.out = nn.Linear(HIDDEN_WIDTH, TOKEN_WIDTH, bias=False)
        for layer in (self.hidden, self.out):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, tokens: Tensor, foundation: Tensor, specialist: Tensor) -> Tensor:
        """Tokens ``(N, T, 256)`` and two pooled features ``(N, 256)`` to tokens ``(N, T, 256)``."""
        context = torch.cat([foundation, specialist], dim=1)[:, None].expand(-1, tokens.shape[1], -1)
        mixed: Tensor = self.out(F.relu(self.hidden(torch.cat([F.normalize(tokens, dim=2), context], dim=2))))
        return mixed


class AddMixer(nn.Module):
    """The sum of each token and both pooled features; nothing to train."""

    def forward(self, tokens: Tensor, foundation: Tensor, specialist: Tensor) -> Tensor:
        """Tokens ``(N, T, 256)`` and two pooled features ``(N, 256)`` to tokens ``(N, T, 256)``."""
        return tokens + (foundation + specialist)[:, None]
