"""SAM (Kirillov et al. 2023) on the official modules of ``segment_anything``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn

from domainsam.foundation.attention import fuse_attention
from domainsam.foundation.base import digest_tensors
from domainsam.foundation.decoders.sam import SamStyleFoundation
from domainsam.foundation.encoders.vit import PATCH, SamImageEncoder
from domainsam.foundation.loading import read_tensors
from domainsam.protocols import Features
from domainsam.tensorfile import load_strict
from domainsam.weights import SAM_PIXELS, find_weights

EMBED_DIM = 256


@dataclass(frozen=True)
class SamSize:
    """Sizes of one image encoder; ``global_blocks`` attend over the whole image, the others in windows."""

    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    image_size: int = 1024
    window: int = 14


SIZES = {
    "sam_vit_b": SamSize(768, 12, 12, (2, 5, 8, 11)),
    "sam_vit_l": SamSize(1024, 24, 16, (5, 11, 17, 23)),
    "sam_vit_h": SamSize(1280, 32, 16, (7, 15, 23, 31)),
}
"""As in ``segment_anything.build_sam``."""


KNOWN_EXTRAS = ("pixel_mean", "pixel_std", "mask_threshold")
"""Tensors of some copies of the files that no weight depends on: the statistics are SAM's own."""


class SamNetwork(nn.Module):
    """Image encoder, prompt encoder and mask decoder under the official names."""

    def __init__(self, size: SamSize) -> None:
        super().__init__()
        grid = (size.image_size // PATCH,) * 2
        self.image_encoder = SamImageEncoder(
            img_size=size.image_size,
            patch_size=PATCH,
            embed_dim=size.width,
            depth=size.depth,
            num_heads=size.heads,
            out_chans=EMBED_DIM,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=size.window,
            global_attn_indexes=size.global_blocks,
        )
        self.prompt_encoder = PromptEncoder(EMBED_DIM, grid, (size.image_size,) * 2, mask_in_chans=16)
        self.mask_decoder = MaskDecoder(
            transformer_dim=EMBED_DIM,
            transformer=TwoWayTransformer(depth=2, embedding_dim=EMBED_DIM, num_heads=8, mlp_dim=2048),
        )
        fuse_attention(self.mask_decoder, Attention)


class SamFoundation(SamStyleFoundation):
    """SAM, frozen, for images of any size that is a multiple of 32.

    Parameters
    ----------
    network
        With its weights in place, float32, on the device to compute on.
    name, image_size
        As for :class:`domainsam.foundation.base.FrozenFoundation`.
    dtype
        Type of the large matrix products; features, tokens and masks stay float32.
    compile
        Compile the image encoder with ``torch.compile``.
    """

    model: SamNetwork

    def __init__(
        self,
        network: SamNetwork,
        name: str,
        image_size: int,
        dtype: torch.dtype = torch.float32,
        compile: bool = False,
    ) -> None:
        digest = digest_tensors(network.state_dict())
        super().__init__(
            network, name, image_size, digest, network.prompt_encoder, network.mask_decoder, dtype
        )
        network.image_encoder.prepare(dtype, compile)
        self._mean = torch.tensor(SAM_PIXELS.mean, device=self.device).view(3, 1, 1)
        self._std = torch.tensor(SAM_PIXELS.std, device=self.device).view(3, 1, 1)

    def encode(self, images: Tensor) -> Features:
        """Features ``(B, 256, H/16, W/16)`` of RGB images ``(B, 3, H, W)`` in 0 to 1; no finer levels."""
        images = self._checked_images(images)
        height, width = images.shape[-2:]
        return Features(self.model.image_encoder((images - self._mean) / self._std), (), (height, width))

    def encode_plain(self, images: Tensor) -> Features:
        """As :meth:`encode`, but as SAMed and SAM-LST run the encoder.

        Images stay in 0 to 1, SAM's statistics are not taken out of them, and
        the position code is resized bilinearly.
        """
        images = self._checked_images(images)
        height, width = images.shape[-2:]
        return Features(self.model.image_encoder(images, "bilinear"), (), (height, width))


def build(tensors: dict[str, Tensor], size: SamSize, source: str) -> SamNetwork:
    """Network of that size holding these tensors; built without allocating weights twice."""
    with torch.device("meta"):
        network = SamNetwork(size)
    return load_strict(network, tensors, source, assign=True)


def load(
    name: str, path: Path | None, device: torch.device, dtype: torch.dtype, compile: bool
) -> SamFoundation:
    """Loader for :data:`domainsam.foundations.FOUNDATIONS`."""
    path = path or find_weights(name)
    tensors = {key: value for key, value in read_tensors(path).items() if key not in KNOWN_EXTRAS}
    size = replace(SIZES[name], image_size=find_image_size(tensors, SIZES[name].image_size))
    network = build(tensors, size, str(path))
    return SamFoundation(network.to(device), name, size.image_size, dtype, compile)


def find_image_size(tensors: dict[str, Tensor], usual: int) -> int:
    """Side in pixels of the images that an encoder's position code was made for; ``usual`` if it has none."""
    code = tensors.get("image_encoder.pos_embed")
    return usual if code is None or code.ndim != 4 else int(code.shape[1]) * PATCH
