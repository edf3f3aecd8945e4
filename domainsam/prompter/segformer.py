"""The specialist of UV-SAM: a SegFormer that words prompts for a generalist.

Zhang et al. 2024, "UV-SAM: Adapting Segment Anything Model for Urban Village
Identification"; Xie et al. 2021, "SegFormer". From one coarse mask come a mask
prompt, box prompts, and two pooled features that a mixer joins to the box
tokens. Every part can be switched off, which is the paper's ablation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.errors import ConfigError
from domainsam.foundation.norms import find_merged
from domainsam.foundations import IMAGENET
from domainsam.gaussian import blur_images, weigh_gaussian
from domainsam.prompter.proposals import ProposalConfig, find_proposals
from domainsam.prompter.published import find_published_prompts
from domainsam.prompter.released_head import ReleasedHead
from domainsam.prompter.segformer_parts import MIT_SIZES, AllMlpHead, build_encoder, find_head_width
from domainsam.prompts import PromptSet
from domainsam.protocols import Coarse, Features, Foundation
from domainsam.trunks import Triple, find_normalisation

BOX_TOKENS = 2
"""SAM words a box as two corner tokens."""
MOST_BLUR = 4.0
"""Pixels; more leaves nothing to see at the strides of the finest level."""


@dataclass(frozen=True)
class PromptParts:
    """Which parts of a prompt are used; all of them is the full model.

    ``sam`` off means the coarse mask alone: the foundation is not asked at all.
    """

    box: bool = True
    mask: bool = True
    sam_embedding: bool = True
    segformer_embedding: bool = True
    sam: bool = True


@dataclass(frozen=True)
class PrompterConfig:
    """The build of a :class:`SegFormerPrompter`.

    Parameters
    ----------
    encoder
        ``"mit_b0"`` to ``"mit_b5"``, or a trunk by name, see :func:`domainsam.trunks.build_trunk`.
    head_width
        Channels of the decode head; by default as published for a SegFormer, 128 on a trunk of ``timm``.
    mean, std
        Of RGB in 0 to 1, by which images are normalised; by default what the encoder's
        published weights were trained with. A model's file says them.
    temperature
        Logits are divided by it, which leaves classes as they are and moves probabilities
        towards a half (above 1); fitted on held-out ground, 1 in training (Guo et al. 2017).
    classes
        Number of classes, background included.
    mixer
        ``"mlp"`` or ``"add"``, the two published mixers.
    fusion
        ``"sam"``: the foundation's mask is the answer, as published.
        ``"gate"``: a learned blend of its logits and the coarse ones.
    dropout
        Rate before the classifier.
    drop_path
        Largest stochastic-depth rate of the encoder.
    deepest
        Stride of the deepest level of a trunk that the decode head looks at; without what lies deeper the
        network sees less far around.
    blur
        Standard deviation in pixels of a Gaussian that images pass first, in training and after it, or 0. A
        scene that was turned or resampled is less sharp than the first one; blurred, both look alike.
    parts, proposals
        See :class:`PromptParts` and :class:`ProposalConfig`.
    decode_head
        ``"normed"``: SegFormer's own, with batch norm after the fusion.
        ``"released"``: that of UV-SAM's checkpoints, a ReLU after every level and no norm.
    """

    encoder: str = "mit_b0"
    head_width: int | None = None
    mean: Triple | None = None
    std: Triple | None = None
    temperature: float = 1.0
    classes: int = 2
    mixer: Literal["mlp", "add"] = "mlp"
    fusion: Literal["sam", "gate"] = "sam"
    dropout: float = 0.1
    drop_path: float = 0.1
    deepest: int = 32
    blur: float = 0.0
    parts: PromptParts = field(default_factory=PromptParts)
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    decode_head: Literal["normed", "released"] = "normed"


class SegFormerPrompter(nn.Module):
    """Coarse masks, and prompts made of them.

    Images are ``(B, 3, H, W)`` RGB floats in 0 to 1, sides multiples of 32;
    normalisation happens inside. In evaluation mode an image's result does
    not depend on the rest of its batch.

    Raises
    ------
    ConfigError
        If the configuration names an unknown encoder, mixer or fusion, or has a temperature of 0 or less,
        or a blur that is none.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: PrompterConfig | None = None) -> None:
        super().__init__()
        config = config or PrompterConfig()
        if not config.temperature > 0:
            raise ConfigError(f"temperature is {config.temperature}, expected a number above 0")
        if not 0 <= config.blur <= MOST_BLUR:
            raise ConfigError(f"blur is {config.blur}, expected 0 to {MOST_BLUR:g} pixels")
        # SegFormer's published weights were trained with ImageNet's.
        look = find_normalisation(config.encoder) if config.encoder not in MIT_SIZES else IMAGENET
        mean, std = config.mean or look.mean, config.std or look.std
        # A model file says what its trunk wants, whatever a later timm says.
        self.config = config = config if config.encoder in MIT_SIZES else replace(config, mean=mean, std=std)
        if config.mixer not in ("mlp", "add"):
            raise ConfigError(f"mixer is {config.mixer!r}, expected 'mlp' or 'add'")
        if config.fusion not in ("sam", "gate"):
            raise ConfigError(f"fusion is {config.fusion!r}, expected 'sam' or 'gate'")
        self.encoder = build_encoder(config.encoder, config.drop_path, config.deepest)
        width = config.head_width or find_head_width(config.encoder)
        head: Any = ReleasedHead if config.decode_head == "released" else AllMlpHead
        self.head = head(self.encoder.widths, width, config.classes, config.dropout)
        # The published B0 feature has the tokens' width already; other heads need a projection.
        self.project: nn.Module = (
            nn.Identity() if width == TOKEN_WIDTH else nn.Linear(width, TOKEN_WIDTH, bias=False)
        )
        self.mixer = MlpMixer() if config.mixer == "mlp" else AddMixer()
        self.gate = nn.Parameter(torch.zeros(())) if config.fusion == "gate" else None
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.blur = Blur(config.blur) if config.blur else nn.Identity()

    def freeze_segformer(self) -> None:
        """From now on train only what speaks to the foundation: projection, mixer and gate."""
        for part in (self.encoder, self.head):
            part.requires_grad_(False)
        self.train(self.training)

    def merge_norms(self) -> None:
        """Merge the encoder's batch norms into its convolutions: a prompter that only answers is quicker so.

        It answers the same up to rounding, and cannot be trained any more.
        """
        self.encoder = find_merged(self.encoder, self.mean.device)

    def train(self, mode: bool = True) -> Self:
        """Change mode; a frozen SegFormer stays in evaluation mode, so its batch norms stay as they are."""
        super().train(mode)
        if not self.head.classify.weight.requires_grad:
            self.encoder.eval()
            self.head.eval()
        return self

    @property
    def adds_feature(self) -> bool:
        """Whether the SegFormer's pooled feature is part of the prompts."""
        return self.config.parts.segformer_embedding

    def coarse(self, images: Tensor) -> Coarse:
        """First look: logits ``(B, classes, H/4, W/4)`` and the fused feature they came from.

        Raises
        ------
        ValueError
            If the images are not ``(B, 3, H, W)`` with sides multiples of 32.
        """
        coarse: Coarse = self.head(self._levels(images))
        return replace(coarse, logits=self._tempered(coarse.logits))

    def coarse_logits(self, images: Tensor) -> Tensor:
        """The logits of :meth:`coarse` alone, for those who need no prompts yet.

        Raises
        ------
        ValueError
            If the images are not ``(B, 3, H, W)`` with sides multiples of 32.
        """
        return self._tempered(self.head.logits(self._levels(images)))

    def _tempered(self, logits: Tensor) -> Tensor:
        return logits if self.config.temperature == 1 else logits / self.config.temperature

    def _levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """The encoder's levels."""
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % 32 or images.shape[3] % 32:
            raise ValueError(
                f"images have shape {tuple(images.shape)}, expected (B, 3, H, W), sides multiples of 32"
            )
        levels: tuple[Tensor, ...] = self.encoder((self.blur(images) - self.mean) / self.std)
        return levels

    def prompts(
        self, coarse: Coarse, features: Features, foundation: Foundation, proposals: PromptSet | None = None
    ) -> PromptSet:
        """Prompts for the foundation, with the switched-off parts removed.

        Parameters
        ----------
        coarse
            What :meth:`coarse` said about the images.
        features
            The foundation's features of the same images.
        foundation
            Makes the corner tokens of the boxes.
        proposals
            Boxes with ``mask_logits`` (log-odds of the foreground at a
            quarter of the images' size) that somebody else found, for
            instance in a whole scene; if None, components of ``coarse``.

        Returns
        -------
        PromptSet
            One prompt a proposal, in their order; possibly none.
        """
        parts = self.config.parts
        found = proposals
        if found is None:
            found = propose(coarse.logits, self.config.proposals)
        tokens = self._tokens(found, coarse, features, foundation)
        return found.replace(
            boxes=found.boxes if parts.box else None,
            mask_logits=found.mask_logits if parts.mask else None,
            tokens=tokens,
        )

    def _tokens(
        self, found: PromptSet, coarse: Coarse, features: Features, foundation: Foundation
    ) -> Tensor | None:
        """Mixed tokens ``(N, 2, 256)``, or None where the foundation's own are wanted."""
        parts = self.config.parts
        if not (parts.sam_embedding or parts.segformer_embedding):
            return None
        dtype = features.image.dtype
        absent = features.image.new_zeros(features.image.shape[0], TOKEN_WIDTH)
        generalist = pool_features(features.image) if parts.sam_embedding else absent
        specialist = self._specialist(coarse) if parts.segformer_embedding else absent
        if parts.box and found.boxes is not None:
            corners = foundation.embed(found.replace(points=None, tokens=None), features.size)
        else:
            # A prompt without a box still needs tokens to carry the pooled features.
            corners = absent.new_zeros(len(found), BOX_TOKENS, TOKEN_WIDTH)
        owner = found.image_index
        tokens: Tensor = self.mixer(corners.to(dtype), generalist[owner], specialist[owner].to(dtype))
        # Under autocast the mixer answers in the short type; a foundation's own tokens are not short.
        return tokens.to(dtype)

    def _specialist(self, coarse: Coarse) -> Tensor:
        """Pooled fused feature ``(B, 256)`` of unit length."""
        if coarse.features is None:
            raise ValueError("the first look has no feature, expected one: it is part of these prompts")
        return F.normalize(self.project(coarse.features.mean(dim=(2, 3))), dim=1)

    def fuse(self, coarse_logits: Tensor, mask_logits: Tensor) -> Tensor:
        """The answer from the coarse log-odds and the foundation's logits, both ``(N, 1, h, w)``.

        ``sigmoid(gate) * mask + (1 - sigmoid(gate)) * coarse`` with a gate;
        the mask alone as published; the coarse alone with ``parts.sam`` off.
        """
        if not self.config.parts.sam:
            return coarse_logits
        if self.gate is None:
            return mask_logits
        share = torch.sigmoid(self.gate)
        return share * mask_logits + (1 - share) * coarse_logits


def propose(logits: Tensor, config: ProposalConfig) -> PromptSet:
    """Prompts of tiles from their coarse class logits ``(B, K, h, w)``, by the rule that is configured."""
    if config.rule == "released":
        return find_published_prompts(logits)
    return find_proposals(compute_log_odds(logits), config)


def compute_log_odds(logits: Tensor) -> Tensor:
    """Log-odds ``(B, 1, h, w)`` of "not background" from class logits ``(B, K, h, w)``.

    For two classes this is ``logits[:, 1] - logits[:, 0]``. Always float32,
    so that thresholds mean the same under autocast.
    """
    logits = logits.float()
    if logits.shape[1] == 2:
        return logits[:, 1:] - logits[:, :1]
    return torch.logsumexp(logits[:, 1:], dim=1, keepdim=True) - logits[:, :1]


TOKEN_WIDTH = 256
"""Width of SAM's prompt tokens."""
HIDDEN_WIDTH = 512


def pool_features(features: Tensor) -> Tensor:
    """Global average of ``(B, C, h, w)`` features, scaled to unit length: ``(B, C)``."""
    return F.normalize(features.mean(dim=(2, 3)), dim=1)


class Blur(nn.Module):
    """A Gaussian over images ``(B, C, H, W)``, of ``sigma`` pixels; beyond an edge its pixels go on."""

    kernel: Tensor

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.register_buffer("kernel", weigh_gaussian(sigma, math.ceil(3 * sigma)), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Blurred images, of the same shape and type: never computed in 16 bits, which would grain them."""
        with torch.autocast(images.device.type, enabled=False):
            return blur_images(images, self.kernel)


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
