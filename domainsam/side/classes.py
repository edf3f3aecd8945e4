"""SAM's mask decoder with a token for every class instead of prompts.

The two-way transformer, its position code and the "no prompt" embedding are
the foundation's own and frozen. What is copied from it and then trained is
the upscaling path, one mask token a class (background included) and one
hypernetwork a class. SAM-LST's released code leaves tokens and hypernetworks
random and frozen; ``tokens="random"`` does the same, and they are still part
of the state dict, for without them a trained model cannot be had again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from domainsam.errors import ConfigError
from domainsam.foundation.decoders.compact import CompactSam, mlp
from domainsam.foundation.decoders.sam import SamStyleFoundation
from domainsam.foundation.layers import EMBED_DIM
from domainsam.prompts import PromptSet
from domainsam.protocols import Features, Foundation

Tokens = Literal["trained", "random"]
Dense = tuple[Tensor | None, Tensor | None, Tensor]
"""What joins the decoder where nothing was prompted: at strides 4, 8 and 16."""
SPREAD = 0.02
"""Deviation of the noise that tells apart tokens copied from one and the same."""


@dataclass(frozen=True)
class DecoderParts:
    """What a foundation's decoder is made of; deliberately no module, so nobody trains or saves it.

    ``leading`` are the tokens before the masks', ``(n, 256)``; ``masks`` the
    mask tokens, ``(4, 256)``; ``position`` and ``dense`` give, for an image
    size (H, W), the position code ``(1, 256, H/16, W/16)`` and :data:`Dense`.
    """

    transformer: Any
    leading: Tensor
    masks: Tensor
    hypernetworks: Any
    upscaling: nn.Module
    position: Callable[[tuple[int, int]], Tensor]
    dense: Callable[[tuple[int, int]], Dense]


class SamUpscaling(nn.Module):
    """The upscaling of SAM and SAM 2; levels join as in SAM 2."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers: Any = copy.deepcopy(layers)

    def forward(self, grid: Tensor, levels: tuple[Tensor, ...], dense: Dense) -> Tensor:
        to8, norm, act8, to4, act4 = self.layers
        at8, at4 = to8(grid), None
        if levels:
            at4, finer8 = levels
            at8 = at8 + finer8
        up: Tensor = to4(act8(norm(at8)))
        finest: Tensor = act4(up if at4 is None else up + at4)
        return finest


class CompactUpscaling(nn.Module):
    """The upscaling of the embedded foundation."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.up8, self.mix8 = copy.deepcopy(decoder.up8), copy.deepcopy(decoder.mix8)
        self.up4, self.mix4 = copy.deepcopy(decoder.up4), copy.deepcopy(decoder.mix4)

    def forward(self, grid: Tensor, levels: tuple[Tensor, ...], dense: Dense) -> Tensor:
        at8 = self.mix8(self.up8(grid) + levels[1] + dense[1])
        finest: Tensor = self.mix4(self.up4(at8) + levels[0] + dense[0])
        return finest


def split_decoder(foundation: Foundation) -> DecoderParts:
    """Take a foundation's decoder apart.

    Raises
    ------
    ConfigError
        If it has no decoder of SAM's kind.
    """
    model = getattr(foundation, "model", None)
    if isinstance(model, CompactSam):
        return _compact_parts(model)
    if isinstance(foundation, SamStyleFoundation):
        return _sam_parts(foundation)
    raise ConfigError(
        f"foundation {foundation.name!r} has no mask decoder to build on: use embedded, a SAM or a SAM 2"
    )


def _compact_parts(model: CompactSam) -> DecoderParts:
    def position(size: tuple[int, int]) -> Tensor:
        code: Tensor = model.prompt_encoder.pe_layer((size[0] // 16, size[1] // 16))[None]
        return code

    def dense(size: tuple[int, int]) -> Dense:
        drawn: Dense = model.dense_prompts(_nothing(model.mean.device), size)
        return drawn

    decoder = model.decoder
    return DecoderParts(
        decoder.transformer,
        decoder.iou_token.weight,
        decoder.mask_tokens.weight,
        decoder.hypernetworks,
        CompactUpscaling(decoder),
        position,
        dense,
    )


def _sam_parts(foundation: SamStyleFoundation) -> DecoderParts:
    encoder, decoder = foundation._prompt_encoder, foundation._mask_decoder
    leading = [decoder.iou_token.weight]
    if getattr(decoder, "pred_obj_scores", False):
        leading.insert(0, decoder.obj_score_token.weight)

    def position(size: tuple[int, int]) -> Tensor:
        code: Tensor = encoder.pe_layer((size[0] // 16, size[1] // 16))[None]
        return code

    def dense(size: tuple[int, int]) -> Dense:
        return None, None, encoder.no_mask_embed.weight[..., None, None]

    return DecoderParts(
        decoder.transformer,
        torch.cat(leading),
        decoder.mask_tokens.weight,
        decoder.output_hypernetworks_mlps,
        SamUpscaling(decoder.output_upscaling),
        position,
        dense,
    )


def _nothing(device: torch.device) -> PromptSet:
    """One prompt that says nothing."""
    index = torch.zeros(1, dtype=torch.int64, device=device)
    return PromptSet(index, index, torch.ones(1, device=device))


class ClassDecoder(nn.Module):
    """Features to one map of logits a class.

    Parameters
    ----------
    foundation
        Whose decoder it is.
    classes
        Number of classes, background included.
    tokens
        ``"trained"``: tokens and hypernetworks begin as copies of the
        foundation's and learn; ``"random"``: random and frozen, as SAM-LST was released.
    """

    def __init__(self, foundation: Foundation, classes: int, tokens: Tokens = "trained") -> None:
        super().__init__()
        self.parts = parts = split_decoder(foundation)
        self.upscaling = parts.upscaling.requires_grad_(True)
        self.tokens = nn.Parameter(torch.randn(classes, EMBED_DIM))
        self.hypernetworks: Any = nn.ModuleList(mlp(EMBED_DIM, EMBED_DIM // 8) for _ in range(classes))
        self._constants: dict[tuple[int, int], tuple[Tensor, Dense]] = {}
        if tokens == "random":
            self.tokens.requires_grad_(False)
            self.hypernetworks.requires_grad_(False)
            return
        given = len(parts.masks)
        with torch.no_grad():
            for index in range(classes):
                noise = SPREAD * self.tokens[index] if index >= given else 0.0
                self.tokens[index] = parts.masks[index % given].to("cpu") + noise
                _copy_linears(parts.hypernetworks[index % given], self.hypernetworks[index])

    def forward(self, features: Features) -> Tensor:
        """Logits ``(B, classes, H/4, W/4)``."""
        position, dense = self._constant(features.size)
        count, grid = features.image.shape[0], features.image.shape[-2:]
        leading = self.parts.leading.to(self.tokens.device)
        queries = torch.cat([leading, self.tokens]).expand(count, -1, -1)
        image = features.image + dense[2]
        hidden, keys = self.parts.transformer(image, position.expand(count, -1, -1, -1), queries)
        up = self.upscaling(keys.transpose(1, 2).unflatten(2, grid), features.levels, dense)
        first = len(leading)
        weights = torch.stack(
            [head(hidden[:, first + index]) for index, head in enumerate(self.hypernetworks)], dim=1
        )
        logits: Tensor = torch.einsum("nkc,nchw->nkhw", weights.float(), up.float())
        return logits

    def _constant(self, size: tuple[int, int]) -> tuple[Tensor, Dense]:
        """Position code and empty prompt of an image size, made once."""
        if size not in self._constants:
            # Sines of large angles, never reduced in precision.
            with torch.no_grad(), torch.autocast(self.tokens.device.type, enabled=False):
                self._constants[size] = self.parts.position(size), self.parts.dense(size)
        return self._constants[size]


def _copy_linears(source: nn.Module, target: nn.Module) -> None:
    """Copy the linear layers of one three-layer perceptron into another, in their order."""
    pairs = zip(
        (part for part in source.modules() if isinstance(part, nn.Linear)),
        (part for part in target.modules() if isinstance(part, nn.Linear)),
        strict=True,
    )
    for one, other in pairs:
        other.weight.copy_(one.weight)
        assert one.bias is not None
        other.bias.copy_(one.bias)
