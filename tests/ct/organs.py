"""A small organ model without training, and bodies with organs of simple shapes."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from domainsam.foundation.sam import SamFoundation, SamNetwork, SamSize
from domainsam.side.ladder import LadderConfig
from domainsam_ct.model.network import NetworkConfig, OrganNetwork
from domainsam_ct.model.organs import ModelConfig, OrganModel
from domainsam_ct.train.case import Case

LABELS = ("background", "kidney_right", "kidney_left", "liver")


@cache
def tiny_foundation() -> SamFoundation:
    """SAM's anatomy with a very small encoder and random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SamNetwork(SamSize(width=32, depth=2, heads=2, global_blocks=(1,), image_size=64))
    return SamFoundation(network, "sam_vit_b", 64)


def tiny_config(neighbours: int = 0, depths: tuple[int, ...] = (16, 8, 4)) -> ModelConfig:
    return ModelConfig(
        pixel_mm=4.0, side=64, network=NetworkConfig(neighbours, ladder=LadderConfig(depths=depths))
    )


def tiny_network(config: ModelConfig | None = None) -> OrganNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = OrganNetwork((config or tiny_config()).network, tiny_foundation(), len(LABELS))
        # Logits apart enough for every class to win somewhere.
        with torch.no_grad():
            for head in network.decoder.hypernetworks:
                head[-1].weight.mul_(30)
    return network.eval()


def tiny_model(neighbours: int = 0, batch: int = 8) -> OrganModel:
    config = tiny_config(neighbours)
    return OrganModel("tiny", LABELS, config, tiny_network(config), batch=batch)


def body(name: str = "one", depth: int = 6, side: int = 40, seed: int = 0) -> Case:
    """A round body with a large bright organ on the patient's right and two small ones; 5 mm pixels."""
    random = np.random.default_rng(seed)
    ys, xs = np.mgrid[:side, :side] - side / 2 + 0.5
    labels = np.zeros((side, side), np.uint8)
    labels[(ys / 9) ** 2 + ((xs + 7) / 6) ** 2 < 1] = 3
    labels[((ys - 9) / 3) ** 2 + ((xs + 5) / 3) ** 2 < 1] = 1
    labels[((ys - 9) / 3) ** 2 + ((xs - 6) / 3) ** 2 < 1] = 2
    units = np.where((ys / 17) ** 2 + (xs / 18) ** 2 < 1, 0.0, -1000.0)
    units = units + np.array([0, 180, 180, 90])[labels]
    slices = units[None] + random.normal(0, 8, (depth, side, side))
    return Case(name, slices.astype(np.int16), np.repeat(labels[None], depth, axis=0), (5.0, 5.0, 5.0))
