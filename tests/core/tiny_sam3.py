"""SAM 3 of transformers, as small as can be, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    Sam3Config,
    Sam3ImageProcessor,
    Sam3Processor,
    Sam3TrackerConfig,
    Sam3TrackerModel,
    Sam3VideoConfig,
    Sam3VideoModel,
)

from domainsam.testing.oracle import make_tokenizer
from tests.core.official import lively

SIDE = 112
SMALL = {"hidden_size": 256, "intermediate_size": 48, "num_attention_heads": 2, "num_layers": 1}
SCALES = [4.0, 2.0, 1.0]


def backbone() -> dict[str, Any]:
    return {
        "model_type": "sam3_vit_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "pretrain_image_size": SIDE,
        "window_size": 4,
        "global_attn_indexes": [1],
    }


def vision(width: int, scales: list[float]) -> dict[str, Any]:
    grid = SIDE // 14
    return {
        "model_type": "sam3_vision_model",
        "backbone_config": backbone(),
        "fpn_hidden_size": width,
        "backbone_feature_sizes": [[int(grid * scale)] * 2 for scale in scales],
        "scale_factors": scales,
    }


def tracker_parts() -> dict[str, Any]:
    return {
        "vision_config": vision(256, SCALES),
        "prompt_encoder_config": {"image_size": SIDE},
        "mask_decoder_config": {"mlp_dim": 64},
    }


def make_tracker(seed: int = 0) -> Any:
    """What prompts alone need."""
    torch.manual_seed(seed)
    model: Any = lively(Sam3TrackerModel(Sam3TrackerConfig(**tracker_parts())))
    torch.nn.init.normal_(model.no_memory_embedding)
    for mlp in model.mask_decoder.output_hypernetworks_mlps:
        mlp.proj_out.weight.data.mul_(30)
    return model


def make_detector_parts() -> tuple[dict[str, Any], Any]:
    """Configuration and processor of what finds objects by words."""
    tokenizer = make_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "projection_dim": 32,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = Sam3Config(
        vision_config=vision(256, [*SCALES, 0.5]),
        text_config=text,
        geometry_encoder_config=SMALL,
        detr_encoder_config=SMALL,
        detr_decoder_config={**SMALL, "num_queries": 6},
        mask_decoder_config={"hidden_size": 256, "num_attention_heads": 2},
    )
    size = {"height": SIDE, "width": SIDE}
    processor = Sam3Processor(Sam3ImageProcessor(size=size, mask_size={"height": 32, "width": 32}), tokenizer)
    return config.to_dict(), processor


def make_whole() -> tuple[Any, Any]:
    """Detector and tracker together, as Meta's own folder holds them."""
    torch.manual_seed(0)
    detector, processor = make_detector_parts()
    memory = {"memory_attention_num_layers": 1, "memory_attention_dim_feedforward": 64, "image_size": SIDE}
    config = Sam3VideoConfig(detector_config=detector, tracker_config={**tracker_parts(), **memory})
    return Sam3VideoModel(config).eval(), processor


def save_whole(folder: Path) -> Any:
    """A folder under the names of weights that Meta's own has."""
    model, processor = make_whole()
    folder.mkdir()
    model.config.save_pretrained(folder)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    processor.save_pretrained(folder)
    return model
