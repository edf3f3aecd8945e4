"""Network layers that encoders and decoders share."""

from __future__ import annotations

from torch import Tensor, nn

EMBED_DIM = 256


class ChannelNorm(nn.LayerNorm):
    """SAM's ``LayerNorm2d`` as one fused call: normalises ``(B, C, H, W)`` over ``C``."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
