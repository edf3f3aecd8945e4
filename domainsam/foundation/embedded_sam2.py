"""A foundation of SAM 2's shape that ships with the package: every part official, every part small.

Hiera with a quarter of SAM 2 Tiny's width, its pyramid, prompt encoder, mask
decoder, memory attention, memory encoder and object pointers, so that what is
built on SAM 2's anatomy runs on a laptop without a download. The encoder
learned to give the embedded foundation's features (``recipes/scene/distil.py``),
the decoder to answer boxes, clicks and masks on them (``recipes/scene/answers.py``).
Unlike SAM 2's it also sees boxes and clicks drawn on its mask prompt: from a few
hundred pictures so small a decoder does not learn what two corner tokens enclose.
The memory parts are untrained: a specialist that uses them trains its own copy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from domainsam.errors import WeightsError
from domainsam.foundation.base import digest_tensors
from domainsam.foundation.decoders.compact import cover_boxes, draw_clicks
from domainsam.foundation.decoders.guided import Guidance
from domainsam.foundation.embedded import HEADER
from domainsam.foundation.loading import read_tensors
from domainsam.foundation.sam2 import Sam2Foundation
from domainsam.prompts import POINT_NEGATIVE, POINT_POSITIVE, PromptSet
from domainsam.protocols import Features, Masks
from domainsam.tensorfile import halve, load_strict, write_safetensors

NAME = "embedded_sam2"
WEIGHTS = Path(__file__).parent / "weights" / "embedded_sam2.safetensors"
IMAGE_SIZE = 256
SEED = 0
"""Of the untrained memory parts."""
MEMORY_PARTS = (
    "memory_attention",
    "memory_encoder",
    "obj_ptr_proj",
    "mask_downsample",
    "maskmem_tpos_enc",
    "no_mem_embed",
    "no_mem_pos_enc",
    "no_obj_ptr",
)
"""First words of the names of tensors that are not in the file."""

BOX_LOGIT, CLICK_LOGIT = 4.0, 8.0
"""Log-odds of a drawn box, negative outside it, and of a drawn click, which come on top of what is there."""

# Of SAM 2 Tiny's configuration only sizes are changed: width 96 to 32, the windows to divisors of the
# grids of 256 and 512 pixels, four layers of memory attention to two, the transformers' inner widths.
SHAPE = """
trunk: {_target_: sam2.modeling.backbones.hieradet.Hiera, embed_dim: 32, num_heads: 1, stages: [1, 2, 5, 2],
  global_att_blocks: [5, 7], window_pos_embed_bkg_spatial_size: [7, 7], window_spec: [8, 4, 8, 8]}
width: 512
layers: 2
fuser_layers: 1
"""


def build() -> Any:
    """The network with random weights, an official ``SAM2Base``.

    Its single reading never gives way to the best of three, unlike SAM 2's: so small a network's masks
    are soft, and half of them would count as unstable, though the single one is the better of the two.
    """
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from sam2.modeling.sam.mask_decoder import MaskDecoder
    from sam2.modeling.sam.transformer import TwoWayTransformer

    shape = OmegaConf.create(SHAPE)
    text = files("sam2").joinpath("configs", "sam2", "sam2_hiera_t.yaml").read_text(encoding="utf-8")
    model = OmegaConf.create(text).model
    widths = [shape.trunk.embed_dim * factor for factor in (8, 4, 2, 1)]
    model.image_size = IMAGE_SIZE
    model.image_encoder.trunk = shape.trunk
    model.image_encoder.neck.backbone_channel_list = widths
    model.memory_attention.num_layers = shape.layers
    model.memory_attention.layer.dim_feedforward = shape.width
    model.memory_encoder.fuser.num_layers = shape.fuser_layers
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network: Any = instantiate(model, _recursive_=True)
        # The official constructor has no argument for the decoder's inner width.
        network.sam_mask_decoder = MaskDecoder(
            transformer_dim=256,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=int(shape.width), num_heads=8),
            use_high_res_features=True,
            iou_prediction_use_sigmoid=True,
            pred_obj_scores=True,
            pred_obj_scores_mlp=True,
            use_multimask_token_for_obj_ptr=True,
        )
        # An image without memory is decoded from the encoder's features as they are.
        nn.init.zeros_(network.no_mem_embed)
    return network


def select_stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that belong in the file: all but those of the memory parts."""
    return {name: value for name, value in tensors.items() if name.split(".")[0] not in MEMORY_PARTS}


class TinySam2Foundation(Sam2Foundation):
    """See the module's text. ``sha256`` is of the trained tensors, not of the untrained memory parts."""

    def __init__(
        self, model: nn.Module, dtype: torch.dtype = torch.float32, compile: bool = False, name: str = NAME
    ) -> None:
        super().__init__(model, name, dtype, compile)
        self.sha256 = digest_tensors(select_stored(model.state_dict()))

    def _decode_chunk(
        self, features: Features, prompts: PromptSet, multimask: bool, guidance: Guidance | None = None
    ) -> Masks:
        return super()._decode_chunk(features, draw_on_mask(prompts, features.size), multimask, guidance)


def draw_on_mask(prompts: PromptSet, size: tuple[int, int]) -> PromptSet:
    """Prompts of an image of ``size`` (H, W) whose mask logits show their boxes and clicks too.

    A box is drawn where there is no mask, which says more; clicks come on top of either.
    """
    quarter = (size[0] // 4, size[1] // 4)
    mask, points = prompts.mask_logits, prompts.points
    if mask is None and prompts.boxes is not None:
        mask = draw_boxes(prompts.boxes.float(), quarter)
    if points is not None:
        clicks = mark_clicks(points.float(), points[..., 2], quarter)
        mask = clicks if mask is None else mask + clicks
    return prompts.replace(mask_logits=mask)


def draw_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Log-odds ``(N, 1, h, w)`` of boxes ``(N, 4)`` in pixels of the image, four times as large."""
    return (BOX_LOGIT * (2 * cover_boxes(boxes, size) - 1))[:, None]


def mark_clicks(points: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Log-odds ``(N, 1, h, w)`` of clicks: ``points (N, P, 2 or more)``, x and y first, and their labels."""
    inside, outside = (
        draw_clicks(points, labels == label, size) for label in (POINT_POSITIVE, POINT_NEGATIVE)
    )
    return (CLICK_LOGIT * (inside - outside))[:, None]


def save(model: nn.Module, path: Path, facts: Mapping[str, object]) -> None:
    """Write the trained tensors as float16 safetensors; the file appears only when complete.

    Raises
    ------
    CheckpointError
        If a weight is too large for float16 or not a number.
    OutputError
        If the file cannot be written.
    """
    write_safetensors(
        path, halve(select_stored(model.state_dict())), {HEADER: json.dumps(dict(facts), sort_keys=True)}
    )


def load(
    name: str, path: Path | None, device: torch.device, dtype: torch.dtype, compile: bool
) -> TinySam2Foundation:
    """Loader for :data:`domainsam.foundations.FOUNDATIONS`."""
    path = path or WEIGHTS
    if not path.is_file():
        raise WeightsError(
            f"this installation lacks the weights of {name} ({path.name}): reinstall domainsam, "
            "or name another foundation, see 'domainsam weights list'"
        )
    model = build()
    memory = {key: value for key, value in model.state_dict().items() if key.split(".")[0] in MEMORY_PARTS}
    load_strict(model, {**memory, **read_tensors(path)}, str(path))
    return TinySam2Foundation(model.to(device), dtype, compile, name)
