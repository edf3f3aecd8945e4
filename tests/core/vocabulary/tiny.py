"""Open-Vocabulary SAM of a hundredth of its size, whose parts are of the published classes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from domainsam.vocabulary.clip import WordTower, build_clip
from domainsam.vocabulary.ovsam_network import OpenVocabularyNetwork, OpenVocabularySize

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def tiny_size() -> OpenVocabularySize:
    """Pictures of 64 pixels, grids of 4 x 4."""
    return OpenVocabularySize(CLIP, width=32, depth=2, heads=2, window=3, image_size=64, roi=4)


def tiny_clip(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = build_clip(CLIP)
    for name, buffer in network.named_buffers():
        if "running_var" in name:
            buffer.uniform_(0.5, 1.5)
    return network


def tiny_network(seed: int = 0) -> OpenVocabularyNetwork:
    """Random weights, with positions and masks that are not zero."""
    torch.manual_seed(seed)
    network = OpenVocabularyNetwork(tiny_size(), tiny_clip(seed))
    with torch.no_grad():
        for name, tensor in [*network.neck.named_parameters(), *network.neck.named_buffers()]:
            if "rel_pos" in name or "pos_embed" in name:
                tensor.normal_(0, 0.1)
        network.mask_decoder.mask_decoder.output_hypernetworks_mlps[0].layers[2].weight.mul_(30)
    return network


def tiny_tower(network: OpenVocabularyNetwork, folder: Path | None = None) -> WordTower:
    """Two templates, and nothing kept unless a folder is given."""
    return WordTower(network.clip, ("a {}.", "the {}"), folder or Path())
