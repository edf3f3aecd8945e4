"""EfficientSAM (Xiong et al. 2023): prompts as its own decoder understands them, and refusal of others."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from domainsam.errors import InputError
from domainsam.foundation.base import Named
from domainsam.foundation.decoders.efficientsam import SLOTS, PointEncoder
from domainsam.foundation.efficient import SPECS, EfficientFoundation, load_network
from domainsam.foundation.encoders.efficientsam import SIZES
from domainsam.prompts import POINT_NEGATIVE, POINT_PADDING, PromptSet
from domainsam.protocols import Features

__all__ = ["SIZES", "EfficientSamFoundation", "PointsOnly", "embed_slots", "find_slots", "load"]

log = logging.getLogger(__name__)

PADDING, INSIDE, TOP_LEFT, BOTTOM_RIGHT = range(4)
"""Rows of the table of embeddings."""
PADDING_PLACE = -0.5 / 1024
"""Where padding lies, as a share of the image: at -1 of 1024 pixels, to which the official code adds half."""


class PointsOnly(Named):
    """Prompts as EfficientSAM takes them, whatever computes it.

    Its authors trained neither clicks outside (there is no embedding for them) nor mask prompts. The
    first are refused; a mask beside points or a box is told, once, and not used; alone it is refused.
    """

    _told = False

    def _checked_prompts(self, features: Features, prompts: PromptSet) -> PromptSet:
        prompts = super()._checked_prompts(features, prompts)
        if prompts.mask_logits is None:
            return prompts
        if prompts.tokens is None and prompts.points is None and prompts.boxes is None:
            raise InputError(f"{self.name} knows no mask prompts: give a box or points on the object")
        if not self._told:
            log.warning("%s knows no mask prompts: boxes and points are used, rough masks are not", self.name)
            self._told = True
        return prompts.replace(mask_logits=None)


class EfficientSamFoundation(PointsOnly, EfficientFoundation):
    """EfficientSAM, frozen, for images of any size that is a multiple of 32; see :class:`PointsOnly`."""

    def embed(self, prompts: PromptSet, size: tuple[int, int]) -> Tensor:
        """Tokens ``(N, 6, 256)`` of points and boxes in an image of ``size`` (H, W).

        Raises
        ------
        InputError
            If a point lies outside its object, or a prompt has more than six points, a box counting as two.
        """
        return embed_slots(self._prompt_encoder, prompts.to(self.device), size, self.name)

    def _dense_prompts(self, prompts: PromptSet) -> Tensor:
        return torch.zeros(1, 1, 1, 1, device=self.device)


def embed_slots(encoder: PointEncoder, prompts: PromptSet, size: tuple[int, int], name: str) -> Tensor:
    """Tokens ``(N, 6, 256)`` of points and boxes in an image of ``size`` (H, W).

    Raises
    ------
    InputError
        If a point lies outside its object, or a prompt has more than six points, a box counting as two;
        ``name`` is whose they are.
    """
    places, kinds = find_slots(prompts, name)
    code: Tensor = encoder.pe_layer.forward_with_coords(places, size)
    tokens = code + encoder.table()[kinds]
    padding = torch.full((1, 1, 2), PADDING_PLACE, device=places.device)
    outside = encoder.pe_layer.forward_with_coords(padding, (1, 1)) + encoder.invalid_points.weight
    return torch.where((kinds == PADDING)[..., None], outside, tokens)


def find_slots(prompts: PromptSet, name: str) -> tuple[Tensor, Tensor]:
    """Places ``(N, 6, 2)`` and kinds ``(N, 6)`` of the points and corners, real ones first."""
    count, device = len(prompts), prompts.image_index.device
    places = [torch.zeros(count, SLOTS, 2, device=device)]
    kinds = [torch.full((count, SLOTS), PADDING, device=device)]
    if prompts.boxes is not None:
        places.insert(0, prompts.boxes.float().reshape(-1, 2, 2))
        kinds.insert(0, torch.tensor([TOP_LEFT, BOTTOM_RIGHT], device=device).expand(count, 2))
    if prompts.points is not None:
        labels = prompts.points[..., 2]
        if bool((labels == POINT_NEGATIVE).any()):
            raise InputError(
                f"{name} knows no points outside an object (its authors trained none): "
                "leave them out, or choose another foundation, see 'domainsam foundations list'"
            )
        places.insert(0, prompts.points[..., :2].float())
        kinds.insert(0, torch.where(labels == POINT_PADDING, PADDING, INSIDE))
    place, kind = torch.cat(places, dim=1), torch.cat(kinds, dim=1)
    order = (kind == PADDING).to(torch.uint8).argsort(dim=1, stable=True)
    kind = kind.gather(1, order)
    if bool((kind[:, SLOTS:] != PADDING).any()):
        most = int((kind != PADDING).sum(dim=1).max())
        raise InputError(
            f"{name} was given a prompt of {most} points, a box counting as two; "
            f"it holds at most {SLOTS}: leave some out"
        )
    place = place.gather(1, order[..., None].expand(-1, -1, 2))
    return place[:, :SLOTS], kind[:, :SLOTS]


def load(
    name: str, path: Path | None, device: torch.device, dtype: torch.dtype, compile: bool
) -> EfficientSamFoundation:
    """Loader for :data:`domainsam.foundations.FOUNDATIONS`."""
    network = load_network(name, path)
    return EfficientSamFoundation(network.to(device), SPECS[name], dtype, compile)
