"""Released checkpoints of UV-SAM as model files."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from domainsam.config import to_table
from domainsam.errors import ConfigError
from domainsam.foundation import load_foundation
from domainsam.prompter.proposals import PUBLISHED
from domainsam.prompter.segformer import PrompterConfig, SegFormerPrompter
from domainsam.prompter.segformer_parts import MIT_SIZES
from domainsam.prompter.trained import save_prompter
from domainsam.released import Converted, ConvertOptions, Ledger, list_frozen
from domainsam_urban.model.config import PACK, SceneConfig, UrbanConfig

SYSTEM = "UV-SAM"
FOUNDATION = "sam_vit_l"
LABELS = ("background", "settlement")
STAGE = "encoder.model.stages"
RESOLUTION_M = 0.91
"""Ground pixel of the published tiles, web-map zoom 17 at the latitude of Beijing."""
TILE = 1024
RENAMED = (
    (r"seg_path_backbone\.layers\.(\d)\.0\.projection\.(.+)", rf"{STAGE}.\1.patch_embeddings.proj.\2"),
    (r"seg_path_backbone\.layers\.(\d)\.0\.norm\.(.+)", rf"{STAGE}.\1.patch_embeddings.layer_norm.\2"),
    (r"seg_path_backbone\.layers\.(\d)\.2\.(.+)", rf"{STAGE}.\1.layer_norm.\2"),
    (r"seg_path_decode_head\.convs\.(\d)\.conv\.(.+)", r"head.levels.\1.\2"),
    (r"seg_path_decode_head\.fusion_conv\.conv\.(.+)", r"head.fuse.\1"),
    (r"seg_path_decode_head\.conv_seg\.(.+)", r"head.classify.\1"),
    (r"project_head\.0\.weight", "mixer.hidden.weight"),
    (r"project_head\.2\.weight", "mixer.out.weight"),
)
"""Names there and here, but for those of blocks."""
BLOCK = re.compile(
    r"seg_path_backbone\.layers\.(\d)\.1\.(\d+)\.(.+)\.(in_proj_weight|in_proj_bias|weight|bias)"
)
PARTS = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.attn.out_proj": "attention.o_proj",
    "attn.sr": "attention.sequence_reduction.sequence_reduction",
    "attn.norm": "attention.sequence_reduction.layer_norm",
    "ffn.layers.0": "mlp.fc1",
    "ffn.layers.1": "mlp.dwconv.dwconv",
    "ffn.layers.4": "mlp.fc2",
}
"""Parts of a block there and here; queries, keys and values are one matrix there."""
UNUSED = ("data_preprocessor.", "backbone.pixel_")


def convert(ledger: Ledger, options: ConvertOptions) -> Converted | None:
    """Make a model file of a checkpoint of UV-SAM; None if it is of another system.

    Raises
    ------
    ConfigError
        If the encoder is of no known size.
    WeightsError, CheckpointError
        If the foundation is absent, or a tensor cannot be accounted for.
    """
    stem = ledger.tensors.get("seg_path_backbone.layers.0.0.projection.weight")
    if stem is None:
        return None
    ledger.tensors = dict(_split(ledger))
    config = PrompterConfig(
        encoder=_find_encoder(ledger),
        mixer="mlp" if "project_head.0.weight" in ledger.tensors else "add",
        fusion="sam",
        proposals=PUBLISHED,
        decode_head="released",
    )
    foundation = load_foundation(options.foundation or FOUNDATION)
    prompter = SegFormerPrompter(config)
    own = prompter.state_dict()
    names = {key: ours for key in ledger.tensors if (ours := _rename(key)) is not None and ours in own}
    found = ledger.take(names, own)
    frozen = list_frozen(foundation)
    ledger.compare(
        {key: frozen[name] for key in ledger.left() if (name := key.removeprefix("backbone.")) in frozen}
    )
    ledger.leave("means of pictures", [key for key in ledger.left() if key.startswith(UNUSED)])
    ledger.close(foundation.name, sorted(set(own) - set(found)))
    prompter.load_state_dict(found)
    scene = SceneConfig(resolution=RESOLUTION_M, tile=TILE)
    tables = to_table(UrbanConfig(foundation.name, scene=scene, prompter=config))
    save_prompter(options.out, prompter, foundation, PACK, LABELS, {**tables, "converted": ledger.name}, {})
    note = "tiles are prompted as released by Python's prompter; 'urban map' prompts from the whole scene"
    return ledger.summary(SYSTEM, options.out, PACK, foundation.name, (note,))


def _split(ledger: Ledger) -> Iterator[tuple[str, Tensor]]:
    """Tensors, each fused matrix of queries, keys and values as three, 1 x 1 convolutions as matrices."""
    for key, value in ledger.tensors.items():
        block = BLOCK.fullmatch(key)
        if block is not None and block[4].startswith("in_proj"):
            end = block[4].removeprefix("in_proj_")
            start = key.removesuffix(f"attn.attn.{block[4]}")
            for name, part in zip("qkv", torch.chunk(value, 3), strict=True):
                yield f"{start}attn.{name}.{end}", part
        elif block is not None and block[3] in ("ffn.layers.0", "ffn.layers.4") and value.ndim == 4:
            yield key, value.flatten(1)
        else:
            yield key, value


def _rename(key: str) -> str | None:
    block = BLOCK.fullmatch(key)
    if block is not None:
        part = PARTS.get(block[3])
        if part is None and (head := re.fullmatch(r"attn\.([qkv])", block[3])):
            part = f"attention.{head[1]}_proj"
        return None if part is None else f"{STAGE}.{block[1]}.blocks.{block[2]}.{part}.{block[4]}"
    for pattern, ours in RENAMED:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, ours, key)
    return None


def _find_encoder(ledger: Ledger) -> str:
    """Name of the encoder by its widths and depths."""
    widths = tuple(
        len(ledger.tensors[f"seg_path_backbone.layers.{stage}.0.projection.weight"]) for stage in range(4)
    )
    depths = tuple(
        len(
            {block[2] for key in ledger.tensors if (block := BLOCK.fullmatch(key)) and block[1] == str(stage)}
        )
        for stage in range(4)
    )
    for name, size in MIT_SIZES.items():
        if (size.widths, size.depths) == (widths, depths):
            return name
    raise ConfigError(
        f"{ledger.source}: its SegFormer has widths {widths} and depths {depths}, expected those of "
        f"{', '.join(MIT_SIZES)}"
    )
