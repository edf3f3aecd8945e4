"""SAM 3's promptable part (Carion et al. 2025, "SAM 3: Segment Anything with Concepts"), by transformers.

The weights are the user's: Meta gives them out under its own licence. A folder in Hugging Face's layout is
read; nothing is downloaded and nothing in it runs.

SAM 3 cuts pictures of 1008 pixels into patches of 14; foundations here have a feature every 16 pixels. So an
image is reduced by 14/16 before it is encoded: 1152 pixels become its 1008, and features and masks are the
model's own. Other sizes take the model's codes of place as they are, cut or repeated, as its own code does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.errors import CheckpointError, WeightsError, one_line
from domainsam.foundation.base import PartedFoundation, answer_nothing, digest_tensors
from domainsam.prompts import POINT_NEGATIVE, POINT_PADDING, POINT_POSITIVE, PromptSet
from domainsam.protocols import Features, Masks
from domainsam.weights import find_folder


@dataclass(frozen=True)
class Part:
    """What a class of transformers takes of Meta's folder, which holds detector and tracker.

    Parameters
    ----------
    config
        The class's configuration.
    told
        Where the folder's ``config.json`` tells of it.
    renamed
        How names of its weights begin there, and what they begin with in the class.
    """

    config: str
    told: str
    renamed: tuple[tuple[str, str], ...]

    def rename(self, name: str) -> str | None:
        """A weight's name in the class; None for one of another part."""
        for begins, becomes in self.renamed:
            if name.startswith(begins):
                # transformers 5.24 writes the beginning twice when it saves both parts together.
                return becomes + name.removeprefix(begins).removeprefix(begins)
        return None if name.startswith(ALL_PARTS) else name


ALL_PARTS = ("detector_model.", "tracker_model.", "tracker_neck.")
PARTS = {
    "Sam3TrackerModel": Part(
        "Sam3TrackerConfig",
        "tracker_config",
        (
            ("detector_model.vision_encoder.backbone.", "vision_encoder.backbone."),
            ("tracker_neck.", "vision_encoder.neck."),
            ("tracker_model.", ""),
        ),
    ),
    "Sam3Model": Part("Sam3Config", "detector_config", (("detector_model.", ""),)),
}
KINDS = ("sam3", "sam3_video", "sam3_tracker", "sam3_tracker_video")
"""What ``config.json`` may say of ``model_type``; ``sam3_video`` is Meta's own folder."""
STRIDE = 16
"""Pixels of an image to a feature, in every foundation."""
MIDDLE = 0.5
"""Mean and standard deviation of RGB on the scale 0 to 1 (transformers' ``Sam3ImageProcessor``)."""
SOURCE = "huggingface.co/facebook/sam3 has them for those who agree to Meta's licence"


class GridPlaces(nn.Module):
    """Rotary codes of place for a grid of any size: the model's own knows the one that it was made for.

    A step between neighbours turns as far as in the model's own grid, so that its grid has its own codes.

    Parameters
    ----------
    inner
        ``Sam3ViTRotaryEmbedding``.
    side
        Of the model's own grid, in patches.
    step
        What a step between patches counts in it.
    """

    def __init__(self, inner: nn.Module, side: int, step: float) -> None:
        super().__init__()
        self.inner, self.side, self.step = inner, side, step

    def forward(self, x: Tensor, position_ids: Tensor) -> Any:
        """Cosines and sines for ``x`` ``(B, h, w, C)``; ``position_ids`` are those of the own grid."""
        height, width = x.shape[1:3]
        if (height, width) != (self.side, self.side):
            rows = torch.arange(height, dtype=torch.float32, device=x.device)
            cols = torch.arange(width, dtype=torch.float32, device=x.device)
            down, across = torch.meshgrid(rows, cols, indexing="ij")
            position_ids = torch.stack([across.flatten(), down.flatten()], dim=-1) * self.step
        return self.inner(x, position_ids)


class Sam3Foundation(PartedFoundation):
    """SAM 3's tracker for single images, frozen, of any size that is a multiple of 32.

    Parameters
    ----------
    model
        ``Sam3TrackerModel``, float32, on the device to compute on.
    name
        As for :class:`domainsam.foundation.base.FrozenFoundation`.
    dtype
        Type of the large matrix products; features, tokens and masks stay float32.
    compile
        Compile the image encoder with ``torch.compile``.
    """

    model: Any

    def __init__(
        self, model: Any, name: str, dtype: torch.dtype = torch.float32, compile: bool = False
    ) -> None:
        backbone = model.config.vision_config.backbone_config
        self._patch = int(backbone.patch_size)
        side = int(backbone.image_size) // self._patch
        super().__init__(model, name, side * STRIDE, digest_tensors(model.state_dict()), dtype)
        for layer in model.vision_encoder.backbone.layers:
            if layer.window_size == 0:
                layer.rotary_emb = GridPlaces(layer.rotary_emb, side, backbone.window_size / side)
        look = model.get_image_features
        self._look = torch.compile(look) if compile else look

    def encode(self, images: Tensor) -> Features:
        """Features of RGB images ``(B, 3, H, W)`` in 0 to 1.

        ``image`` is ``(B, 256, H/16, W/16)`` with the "no memory" embedding added; ``levels`` are the two
        finer maps as the decoder adds them, ``(B, 32, H/4, W/4)`` and ``(B, 64, H/8, W/8)``.
        """
        images = self._checked_images(images)
        height, width = images.shape[-2:]
        size = [side * self._patch // STRIDE for side in (height, width)]
        small = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
        with self._autocast():
            maps = list(self._look((small - MIDDLE) / MIDDLE, return_dict=True).fpn_hidden_states)
        maps[-1] = maps[-1] + self.model.no_memory_embedding
        at4, at8, image = (
            # (h * w, B, C), as the tracker keeps them.
            level.float().permute(1, 2, 0).reshape(len(images), -1, height // stride, width // stride)
            for level, stride in zip(maps, (4, 8, 16), strict=False)
        )
        return Features(image, (at4, at8), (height, width))

    def embed(self, prompts: PromptSet, size: tuple[int, int]) -> Tensor:
        """Tokens ``(N, T, 256)`` of points and boxes, and of the padding that SAM 3 puts beside both.

        Where there is neither, SAM 3 is given an empty point, and pads beside it.
        """
        prompts, encoder = prompts.to(self.device), self.model.prompt_encoder
        count, parts = len(prompts), []
        if prompts.points is not None:
            points = prompts.points.float()
            label = points[..., 2:]
            code = torch.where(
                label == POINT_PADDING, encoder.not_a_point_embed.weight, self._code(points[..., :2], size)
            )
            code = code + (label == POINT_NEGATIVE) * encoder.point_embed.weight[0]
            parts.append(code + (label == POINT_POSITIVE) * encoder.point_embed.weight[1])
        if prompts.boxes is not None:
            corners = self._code(prompts.boxes.float().reshape(count, 2, 2), size)
            parts.append(corners + encoder.point_embed.weight[2:4])
        parts.append(encoder.not_a_point_embed.weight.expand(count, 1 if parts else 2, -1))
        return torch.cat(parts, dim=1)

    def _code(self, places: Tensor, size: tuple[int, int]) -> Tensor:
        """Codes ``(N, P, 256)`` of places ``(N, P, 2)``, x and y from the corner of an image of ``size``."""
        code: Tensor = self.model.prompt_encoder.shared_embedding(places[None], size)[0]
        return code

    def _decode_chunk(self, features: Features, prompts: PromptSet, multimask: bool) -> Masks:
        if not len(prompts):
            return answer_nothing(features, multimask)
        assert prompts.tokens is not None
        own = features[prompts.image_index]
        height, width = own.image.shape[-2:]
        # The code of place holds sines of large angles and is never reduced in precision.
        position = self._grid_code(height, width).expand(len(prompts), -1, -1, -1)
        with self._autocast():
            logits, iou, *_ = self.model.mask_decoder(
                image_embeddings=own.image,
                image_positional_embeddings=position,
                sparse_prompt_embeddings=prompts.tokens.float()[:, None],
                dense_prompt_embeddings=self._dense_prompts(prompts),
                multimask_output=multimask,
                high_resolution_features=list(own.levels),
            )
        return Masks(logits[:, 0].float(), iou[:, 0].float())

    def _grid_code(self, height: int, width: int) -> Tensor:
        """Codes of the middles of a grid's cells, ``(1, 256, h, w)``."""
        rows = (torch.arange(height, dtype=torch.float32, device=self.device) + 0.5) / height
        cols = (torch.arange(width, dtype=torch.float32, device=self.device) + 0.5) / width
        down, across = torch.meshgrid(rows, cols, indexing="ij")
        code: Tensor = self.model.shared_image_embedding(torch.stack([across, down], dim=-1))
        return code.permute(2, 0, 1)[None]

    def _dense_prompts(self, prompts: PromptSet) -> Tensor:
        """What is added to the image: the mask prompt ``(N, 256, h, w)``, or that there is none."""
        encoder = self.model.prompt_encoder
        if prompts.mask_logits is None:
            none: Tensor = encoder.no_mask_embed.weight[..., None, None]
            return none
        given: Tensor = encoder.mask_embed(prompts.mask_logits.float())
        return given


def load(
    name: str, path: Path | None, device: torch.device, dtype: torch.dtype, compile: bool
) -> Sam3Foundation:
    """Loader for :data:`domainsam.foundations.FOUNDATIONS`.

    Raises
    ------
    WeightsError
        If no folder is named and none is where weights are looked for.
    CheckpointError
        If it holds no SAM 3 with its tracker.
    """
    path = path or find_folder(name, SOURCE)
    return Sam3Foundation(read_model("Sam3TrackerModel", path).to(device), name, dtype, compile)


def read_model(kind: str, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """A model of transformers, of :data:`PARTS`, from a folder that has to hold all of its weights.

    Weights are sorted here, so that nothing of a part is taken for another's, whoever has saved the folder.

    Raises
    ------
    WeightsError
        If it is no folder of a model.
    CheckpointError
        If it holds another model, or lacks weights: transformers would draw them at random.
    """
    import transformers
    from transformers.utils import logging

    if not (folder / "config.json").is_file():
        raise WeightsError(f"{folder}: holds no config.json; expected the folder of SAM 3: {SOURCE}")
    part = PARTS[kind]
    logging.disable_progress_bar()
    level = logging.get_verbosity()
    # What is missing is told below, in one line.
    logging.set_verbosity_error()
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        if config.get("model_type") not in KINDS:
            raise ValueError(f"config.json tells of {config.get('model_type')}")
        own = {name: value for name, value in config.get(part.told, config).items() if name != "model_type"}
        model, told = getattr(transformers, kind).from_pretrained(
            None,
            config=getattr(transformers, part.config)(**own),
            state_dict=_read_part(folder, part),
            dtype=dtype,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = one_line(error)[:200]
        raise CheckpointError(f"{folder}: holds no SAM 3 that can be used: {reason}") from error
    finally:
        logging.set_verbosity(level)
    missing = sorted(told["missing_keys"])
    if missing:
        raise CheckpointError(
            f"{folder}: is a {config['model_type']} without {len(missing)} weights of {kind}, the first "
            f"{missing[0]}; Meta's own folder (facebook/sam3) has all"
        )
    return model


def _read_part(folder: Path, part: Part) -> dict[str, Tensor]:
    """The weights of a part, by their names in its class."""
    tensors = {}
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError("there are no *.safetensors; pickles are not read")
    for file in files:
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - no mapping
                if (known := part.rename(name)) is not None:
                    tensors[known] = opened.get_tensor(name)
    return tensors
