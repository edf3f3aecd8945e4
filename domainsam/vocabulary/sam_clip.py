"""SAM-CLIP (Wang et al. 2024, *SAM-CLIP: Merging Vision Foundation Models towards Semantic and Spatial
Understanding*): one ViT-B trunk that serves SAM and CLIP.

HeadSAM is SAM's own mask decoder. HeadCLIP is three transformer blocks on the trunk's last tokens, a
maximum over patches, a norm, and a perceptron with two hidden layers that ends in the space of CLIP's
words; for places of a picture the maximum is left out. No code or weights were published: ``domainsam
train-words --method samclip`` makes them. The paper begins HeadCLIP's blocks with SAM's last one;
``begin="random"`` is the other reading of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from segment_anything.modeling.image_encoder import Block
from torch import Tensor, nn

from domainsam.errors import CheckpointError
from domainsam.foundation.attention import make_relative_table
from domainsam.foundation.encoders.vit import PATCH, SamImageEncoder
from domainsam.foundation.sam import SamNetwork, SamSize
from domainsam.tensorfile import halve, load_strict, read_safetensors, write_safetensors
from domainsam.vocabulary.loading import ENTRY, HEADER, read_header
from domainsam.weights import SAM_PIXELS

NAME = "samclip"
BLOCKS = 3
"""Transformer blocks of HeadCLIP."""
HEAD = "clip_head."
"""Beginning of the names of HeadCLIP's tensors; all others are SAM's official ones."""
SEMANTIC_SIDE = 448
"""Pixels of the side of pictures that places are named on: 28 x 28 patches."""
Begin = Literal["sam", "random"]


class HeadClip(nn.Module):
    """From the trunk's tokens to vectors in the space of words.

    Parameters
    ----------
    size
        Of SAM's trunk.
    vector
        Components of the teacher's vectors.
    blocks
        Transformer blocks.
    """

    def __init__(self, size: SamSize, vector: int, blocks: int = BLOCKS) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-6)
        grid = (size.image_size // PATCH,) * 2
        self.blocks = nn.ModuleList(
            Block(size.width, size.heads, norm_layer=norm, use_rel_pos=True, input_size=grid)
            for _ in range(blocks)
        )
        self.norm = norm(size.width)
        self.mlp = nn.Sequential(
            nn.Linear(size.width, size.width),
            nn.GELU(),
            nn.Linear(size.width, size.width),
            nn.GELU(),
            nn.Linear(size.width, vector),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """A vector ``(B, vector)`` of length one for pictures, of tokens ``(B, h, w, C)``."""
        pooled = self.mix(tokens).flatten(1, 2).amax(dim=1)
        return nn.functional.normalize(self.mlp(self.norm(pooled)), dim=-1)

    def places(self, tokens: Tensor) -> Tensor:
        """A vector ``(B, h, w, vector)`` of length one for every patch."""
        return nn.functional.normalize(self.mlp(self.norm(self.mix(tokens))), dim=-1)

    def mix(self, x: Tensor) -> Tensor:
        """Tokens ``(B, h, w, C)`` after the blocks."""
        grid = (x.shape[1], x.shape[2])
        for module in self.blocks:
            block: Any = module
            table = make_relative_table(block.attn.rel_pos_h, block.attn.rel_pos_w, grid)
            x = x + SamImageEncoder.attend_block(block, block.norm1(x), table)
            x = x + block.mlp(block.norm2(x))
        return x


class SamClipNetwork(SamNetwork):
    """SAM with HeadCLIP beside its decoder; SAM's tensors keep their official names.

    Parameters
    ----------
    size
        Of SAM's trunk.
    vector
        Components of the teacher's vectors.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size: SamSize, vector: int) -> None:
        super().__init__(size)
        self.size = size
        self.clip_head = HeadClip(size, vector)
        self.register_buffer("mean", torch.tensor(SAM_PIXELS.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(SAM_PIXELS.std).view(3, 1, 1), persistent=False)
        self.image_encoder.prepare()

    @property
    def vector(self) -> int:
        """Components of its vectors."""
        last: Any = self.clip_head.mlp[-1]
        return int(last.out_features)

    def tokens(self, images: Tensor) -> Tensor:
        """The trunk's tokens ``(B, H/16, W/16, C)`` of pictures ``(B, 3, H, W)`` in 0 to 1."""
        encoder: SamImageEncoder = self.image_encoder
        if torch.is_grad_enabled():
            # Tables made of weights that learn hold for one step alone.
            encoder.tables = {}
        found = encoder.tokens((images - self.mean) / self.std)
        if torch.is_grad_enabled():
            encoder.tables = {}
        return found

    def encode_sam(self, tokens: Tensor) -> Tensor:
        """SAM's features ``(B, 256, H/16, W/16)`` of tokens."""
        features: Tensor = self.image_encoder.neck(tokens.permute(0, 3, 1, 2))
        return features

    def sam_state(self) -> dict[str, Tensor]:
        """The tensors that are SAM's."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith(HEAD)}


def merge(sam: SamNetwork, size: SamSize, vector: int, begin: Begin = "sam") -> SamClipNetwork:
    """A network with SAM's weights and a HeadCLIP that begins with SAM's last block, or with nothing."""
    network = SamClipNetwork(size, vector)
    tensors = {**network.state_dict(), **sam.state_dict()}
    network.load_state_dict(tensors)
    if begin == "sam":
        last = sam.image_encoder.blocks[-1].state_dict()
        for block in network.clip_head.blocks:
            block.load_state_dict(last)
    return network


@dataclass(frozen=True)
class Teacher:
    """Whose words a file speaks: how the teacher was named, and the components of its vectors."""

    name: str
    vector: int


def save_sam_clip(
    path: str | Path,
    network: SamClipNetwork,
    teacher: Teacher,
    words: Mapping[str, Tensor],
    about: Mapping[str, Any],
) -> Path:
    """Write a merged network in float16.

    Parameters
    ----------
    words
        Vectors ``(vector,)`` of words that shall need no text tower.
    about
        Version, licence, recipe: what the header says beside.

    Raises
    ------
    OutputError
        If it cannot be written.
    CheckpointError
        If a tensor does not fit float16.
    """
    import json

    told = {
        **about,
        ENTRY: NAME,
        "size": asdict(network.size),
        "teacher": asdict(teacher),
        "words": list(words),
    }
    tensors = halve(network.state_dict())
    if words:
        tensors["words"] = torch.stack(list(words.values())).half()
    write_safetensors(Path(path), tensors, {HEADER: json.dumps(told, sort_keys=True)})
    return Path(path)


@dataclass(frozen=True)
class Loaded:
    """A merged network of a file, whose words it speaks, and the vectors that it holds itself."""

    network: SamClipNetwork
    teacher: Teacher
    words: dict[str, Tensor]


def read_sam_clip(path: str | Path) -> Loaded:
    """The merged network of a file, in float32.

    Raises
    ------
    WeightsError
        If there is no such file.
    CheckpointError
        If it is damaged, or another kind of file.
    """
    path = Path(path)
    told = read_header(path)
    try:
        given = dict(told["size"])
        size = SamSize(**{**given, "global_blocks": tuple(given["global_blocks"])})
        teacher = Teacher(str(told["teacher"]["name"]), int(told["teacher"]["vector"]))
        names = [str(name) for name in told["words"]]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is no file of SAM-CLIP: its header lacks {error}; make one with "
            "domainsam train-words --method samclip"
        ) from error
    tensors = read_safetensors(path)
    vectors = tensors.pop("words", torch.zeros(0, teacher.vector)).float()
    if len(vectors) != len(names):
        raise CheckpointError(f"{path}: {len(names)} words but {len(vectors)} vectors: write the file again")
    network = load_strict(SamClipNetwork(size, teacher.vector), tensors, str(path))
    return Loaded(network.eval(), teacher, dict(zip(names, vectors, strict=True)))
