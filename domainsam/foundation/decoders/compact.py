"""The embedded foundation: a small promptable network with SAM's anatomy.

RepViT-M1 encoder with EdgeSAM's fusion of its two coarsest levels, SAM's neck,
sparse prompt encoder and two-way transformer. Two things differ from SAM, both
because they let so small a network learn from few images:

* prompts are also drawn: the box, the clicks and the previous mask form four
  maps at a quarter of the image's size, embedded at strides 4, 8 and 16;
* the encoder's levels at strides 4 and 8 join the upscaling path, as in SAM 2.

Sources: Kirillov et al. 2023 (Segment Anything, sections 3 and A), Wang et al.
2023 (RepViT), Zhou et al. 2023 (EdgeSAM), Ravi et al. 2024 (SAM 2, appendix D).
"""

from __future__ import annotations

import torch
from segment_anything.modeling import PromptEncoder, TwoWayTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.foundation.decoders.sam import sparse_tokens
from domainsam.foundation.encoders.repvit import RepVitEncoder
from domainsam.foundation.layers import EMBED_DIM, ChannelNorm
from domainsam.prompts import POINT_NEGATIVE, POINT_POSITIVE, PromptSet
from domainsam.protocols import Features, Masks

STRIDE = 16
CLICK_SIGMA = 1.5
"""Width of a drawn click in map pixels (a quarter of the image's): visible, yet smaller than most objects."""
MASK_TOKENS = 4
"""One token for an unambiguous prompt and three readings of an ambiguous one, as in SAM."""


class DensePrompts(nn.Module):
    """Prompts drawn as maps and embedded at strides 4, 8 and 16.

    The four maps at ``(H/4, W/4)`` are the previous mask's probability
    (centred on 0, 0 everywhere when there is none), the inside of the box, and
    the positive and negative clicks as Gaussian spots.
    """

    def __init__(self) -> None:
        super().__init__()
        self.at4 = nn.Conv2d(4, EMBED_DIM // 8, 3, padding=1)
        self.to8 = nn.Conv2d(EMBED_DIM // 8, EMBED_DIM // 4, 2, stride=2)
        self.norm8 = ChannelNorm(EMBED_DIM // 4)
        self.to16 = nn.Conv2d(EMBED_DIM // 4, EMBED_DIM, 2, stride=2)

    def forward(self, prompts: PromptSet, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings ``(N, 32, H/4, W/4)``, ``(N, 64, H/8, W/8)``, ``(N, 256, H/16, W/16)``."""
        return self.embed(draw_prompts(prompts, (size[0] // 4, size[1] // 4)))

    def embed(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same of prompts that are drawn, ``(N, 4, H/4, W/4)``."""
        at4 = self.at4(maps.to(self.at4.weight.dtype))
        at8 = self.norm8(self.to8(F.relu(at4)))
        return at4, at8, self.to16(F.relu(at8))


def draw_prompts(prompts: PromptSet, size: tuple[int, int]) -> Tensor:
    """Prompts as maps ``(N, 4, h, w)``: previous mask, box, positive and negative clicks."""
    maps = torch.zeros(len(prompts), 4, *size, device=prompts.image_index.device)
    if prompts.mask_logits is not None:
        maps[:, :1] = 2 * torch.sigmoid(prompts.mask_logits.float()) - 1
    if prompts.boxes is not None:
        maps[:, 1] = cover_boxes(prompts.boxes.float(), size)
    if prompts.points is not None:
        points = prompts.points.float()
        for channel, label in ((2, POINT_POSITIVE), (3, POINT_NEGATIVE)):
            maps[:, channel] = draw_clicks(points, points[..., 2] == label, size)
    return maps


def cover_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Fraction ``(N, h, w)`` of each map pixel that a box ``(N, 4)`` in image pixels covers.

    A fraction, so that a shift of one image pixel is seen. An empty box at (0, 0) covers nothing.
    """
    ys, xs = (torch.arange(side, device=boxes.device) + 0.5 for side in size)
    x1, y1, x2, y2 = (boxes / 4).unbind(1)
    cover_x = (xs + 0.5).minimum(x2[:, None]) - (xs - 0.5).maximum(x1[:, None])
    cover_y = (ys + 0.5).minimum(y2[:, None]) - (ys - 0.5).maximum(y1[:, None])
    return cover_y.clamp(0, 1)[:, :, None] * cover_x.clamp(0, 1)[:, None, :]


def draw_clicks(points: Tensor, chosen: Tensor, size: tuple[int, int]) -> Tensor:
    """Spots ``(N, h, w)`` at those of the points ``(N, P, 2 or more)`` in image pixels that are chosen."""
    ys, xs = (torch.arange(side, device=points.device) + 0.5 for side in size)
    spot_x = torch.exp(-((xs - points[..., :1] / 4) ** 2) / (2 * CLICK_SIGMA**2))
    spot_y = torch.exp(-((ys - points[..., 1:2] / 4) ** 2) / (2 * CLICK_SIGMA**2))
    spots = torch.einsum("npy,npx->npyx", spot_y * chosen.float()[..., None], spot_x)
    return spots.amax(dim=1)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions that mix image and prompt locally."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = x + self.body(x)
        return mixed


def mlp(width: int, out: int) -> nn.Sequential:
    """Three-layer perceptron of SAM's heads."""
    return nn.Sequential(
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out)
    )


class CompactDecoder(nn.Module):
    """SAM's mask decoder with image levels and drawn prompts in its upscaling path."""

    def __init__(self, mlp_dim: int = 1024) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(depth=2, embedding_dim=EMBED_DIM, mlp_dim=mlp_dim, num_heads=8)
        self.iou_token = nn.Embedding(1, EMBED_DIM)
        self.mask_tokens = nn.Embedding(MASK_TOKENS, EMBED_DIM)
        self.up8 = nn.ConvTranspose2d(EMBED_DIM, EMBED_DIM // 4, 2, stride=2)
        self.mix8 = nn.Sequential(ChannelNorm(EMBED_DIM // 4), nn.ReLU(), ResidualBlock(EMBED_DIM // 4))
        self.up4 = nn.ConvTranspose2d(EMBED_DIM // 4, EMBED_DIM // 8, 2, stride=2)
        self.mix4 = nn.Sequential(nn.ReLU(), ResidualBlock(EMBED_DIM // 8))
        self.hypernetworks = nn.ModuleList(mlp(EMBED_DIM, EMBED_DIM // 8) for _ in range(MASK_TOKENS))
        self.iou_head = mlp(EMBED_DIM, MASK_TOKENS)

    def forward(
        self, features: Features, position: Tensor, tokens: Tensor, dense: tuple[Tensor, Tensor, Tensor]
    ) -> Masks:
        """All four masks of every prompt; ``features`` already repeated to one row a prompt."""
        count = tokens.shape[0]
        output = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(count, -1, -1)
        queries = torch.cat([output.to(tokens.dtype), tokens], dim=1)
        image = features.image + dense[2]
        queries, keys = self.transformer(image, position.expand(count, -1, -1, -1), queries)
        grid = keys.transpose(1, 2).unflatten(2, image.shape[-2:])
        at8 = self.mix8(self.up8(grid) + features.levels[1] + dense[1])
        at4 = self.mix4(self.up4(at8) + features.levels[0] + dense[0])
        weights = torch.stack(
            [head(queries[:, 1 + index]) for index, head in enumerate(self.hypernetworks)], dim=1
        )
        logits = torch.einsum("nkc,nchw->nkhw", weights, at4)
        return Masks(logits, self.iou_head(queries[:, 0]))


class CompactSam(nn.Module):
    """Encoder, prompt encoder and decoder of the embedded foundation, trainable.

    :class:`domainsam.foundation.embedded.EmbeddedFoundation` is its frozen
    form. Images are RGB floats in 0 to 1; sides are multiples of 32. ``encoder``
    is as ``model`` of :class:`domainsam.foundation.encoders.repvit.RepVitEncoder`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: str = "repvit_m1", mlp_dim: int = 1024) -> None:
        super().__init__()
        self.encoder = RepVitEncoder(encoder)
        # Only its sparse half is used; sizes are passed with every call, so these two are nominal.
        self.prompt_encoder = PromptEncoder(EMBED_DIM, (1, 1), (STRIDE, STRIDE), mask_in_chans=4)
        del self.prompt_encoder.mask_downscaling, self.prompt_encoder.no_mask_embed
        self.dense_prompts = DensePrompts()
        self.decoder = CompactDecoder(mlp_dim)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    def encode(self, images: Tensor) -> Features:
        """Features of images ``(B, 3, H, W)``, RGB in 0 to 1."""
        features: Features = self.encoder((images - self.mean) / self.std)
        return features

    def embed(self, prompts: PromptSet, size: tuple[int, int]) -> Tensor:
        """Sparse tokens ``(N, T, 256)`` of points and boxes."""
        return sparse_tokens(self.prompt_encoder, prompts, size)

    def decode_all(self, features: Features, prompts: PromptSet) -> Masks:
        """The four masks of every prompt: the single reading first, then the three."""
        tokens = prompts.tokens if prompts.tokens is not None else self.embed(prompts, features.size)
        per_prompt = features[prompts.image_index]
        grid = (features.image.shape[-2], features.image.shape[-1])
        position = self.prompt_encoder.pe_layer(grid)[None].to(tokens.dtype)
        dense = self.dense_prompts(prompts, features.size)
        masks: Masks = self.decoder(per_prompt, position, tokens, dense)
        return masks

    def decode(self, features: Features, prompts: PromptSet, multimask: bool = False) -> Masks:
        """One mask a prompt, or three readings of it."""
        masks = self.decode_all(features, prompts)
        keep = slice(1, None) if multimask else slice(0, 1)
        return Masks(masks.logits[:, keep], masks.iou[:, keep])
