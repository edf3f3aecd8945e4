"""More families of transformers' models, as small as can be: InternVL, SmolVLM, Qwen3-VL and Florence-2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import (
    BartConfig,
    CLIPImageProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from domainsam.testing.oracle import CHAT, make_tokenizer
from tests.core.prompter.language.tiny import TEXT

SIDE = 56
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def make_named(tokens: Mapping[str, str], plain: tuple[str, ...] = ()) -> Any:
    """The tokenizer of bytes with special tokens that go by names, and tokens that do not steer."""
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(set(tokens.values()))})
    tokenizer.add_tokens(list(plain))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        pad_token="<pad>",
        eos_token="<end>",
        extra_special_tokens=dict(tokens),
    )


def make_internvl() -> tuple[Any, Any]:
    """A picture becomes crops of 56 pixels and a small copy of all of it, 4 tokens each."""
    tokenizer = make_named(
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        }
    )
    config = InternVLConfig(
        vision_config={"image_size": SIDE, "patch_size": 14, **SMALL},
        text_config={"model_type": "qwen2", "vocab_size": len(tokenizer), **TEXT},
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=4,
    )
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size={"height": SIDE, "width": SIDE}, crop_to_patches=True, max_patches=4),
        tokenizer,
        InternVLVideoProcessor(size={"height": SIDE, "width": SIDE}),
        image_seq_length=4,
        chat_template=CHAT.replace("<image>", "<IMG_CONTEXT>\n"),
    )
    return InternVLForConditionalGeneration(config), processor


def make_smolvlm() -> tuple[Any, Any]:
    """A picture becomes parts of 56 pixels and a small copy of all of it, 4 tokens each."""
    tokenizer = make_named(
        {
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
            "video_token": "<video>",
        }
    )
    config = SmolVLMConfig(
        vision_config={"image_size": SIDE, "patch_size": 14, **SMALL},
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), **TEXT},
        image_token_id=tokenizer.image_token_id,
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    config.text_config.pad_token_id = tokenizer.pad_token_id
    size = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(**size),
        tokenizer,
        SmolVLMVideoProcessor(**size),
        image_seq_len=4,
        chat_template=CHAT,
    )
    return SmolVLMForConditionalGeneration(config), processor


def make_qwen3() -> tuple[Any, Any]:
    """As Qwen2.5-VL, with patches of 16 pixels."""
    tokenizer = make_named(
        {
            "image_token": "<|image_pad|>",
            "video_token": "<|video_pad|>",
            "vision_start_token": "<|vision_start|>",
            "vision_end_token": "<|vision_end|>",
        }
    )
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = Qwen3VLConfig(
        text_config={"vocab_size": len(tokenizer), "rope_parameters": rope, "head_dim": 8, **TEXT},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        vision_start_token_id=tokenizer.vision_start_token_id,
        vision_end_token_id=tokenizer.vision_end_token_id,
    )
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(size={"shortest_edge": 64 * 64, "longest_edge": 128 * 128}, patch_size=16),
        tokenizer,
        Qwen3VLVideoProcessor(),
        chat_template=CHAT.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return Qwen3VLForConditionalGeneration(config), processor


def make_florence2() -> tuple[Any, Any]:
    """An encoder-decoder: 64 pixels of a picture become 4 tokens and their mean."""
    places = tuple(f"<loc_{number}>" for number in range(1000))
    tokenizer = make_named({"image_token": "<image>", "bos_token": "<user>"}, places)
    tokenizer.bos_token = "<user>"
    start = tokenizer.eos_token_id
    text = BartConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=start,
        decoder_start_token_id=start,
    )
    config = Florence2Config(
        text_config=text.to_dict(),
        vision_config={
            "depths": (1, 1),
            "patch_size": (7, 3),
            "patch_stride": (8, 4),
            "patch_padding": (3, 1),
            "patch_prenorm": (False, True),
            "embed_dim": (16, 32),
            "num_heads": (2, 2),
            "num_groups": (2, 2),
            "window_size": 4,
            "projection_dim": 32,
        },
        image_token_id=tokenizer.image_token_id,
    )
    image_processor = CLIPImageProcessor(
        size={"height": 64, "width": 64}, crop_size={"height": 64, "width": 64}, do_center_crop=False
    )
    image_processor.image_seq_length = 5
    model = Florence2ForConditionalGeneration(config)
    # As the published models' generation_config.json says.
    told = {"decoder_start_token_id": start, "eos_token_id": start, "forced_eos_token_id": start}
    told |= {"forced_bos_token_id": tokenizer.bos_token_id, "no_repeat_ngram_size": 3, "num_beams": 3}
    told |= {"early_stopping": True, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config.update(**told)
    return model, Florence2Processor(image_processor, tokenizer)


FAMILIES = {
    "internvl": make_internvl,
    "smolvlm": make_smolvlm,
    "qwen3_vl": make_qwen3,
    "florence2": make_florence2,
}
