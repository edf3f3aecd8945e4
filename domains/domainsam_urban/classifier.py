"""Whether a cell of ground holds settlement at all: a small ResNet, asked before anything is mapped.

UV-SAM (Zhang et al. 2024) sorts out scenes without settlement by such a
network before it segments the rest. Here cells are smaller than scenes, so
that parts of a large scene can be passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from domainsam import checkpoint
from domainsam.checkpoint import CheckpointHeader, module_tensors
from domainsam.config import from_table, to_table
from domainsam.errors import ConfigError
from domainsam.prompter.segformer import IMAGENET_MEAN, IMAGENET_STD

CLASSIFIER_PACK = "urban classifier"
"""What its files call themselves, so that no other model is taken for one."""
PREFIX = "classifier"
LABELS = ("empty", "settlement")
NO_FOUNDATION = "none"

Network = Literal["resnet18", "resnet34", "resnet50"]


@dataclass(frozen=True)
class ClassifierConfig:
    """How a classifier is built and asked.

    Parameters
    ----------
    network
        A ResNet of timm.
    width
        Channels of its first stage, doubled by every further one; 64 as published, 16 for few labels.
    side
        Side of a cell in pixels, a multiple of 32.
    resolution
        Ground pixel in metres that it was trained at; None where scenes had no CRS.
    threshold
        Probability below which a cell is taken for empty.

    Raises
    ------
    ConfigError
        If a value is impossible.
    """

    network: Network = "resnet18"
    width: int = 16
    side: int = 192
    resolution: float | None = None
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"width is {self.width}, expected 1 or more")
        if self.side < 32 or self.side % 32:
            raise ConfigError(f"side is {self.side}, expected a multiple of 32")
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"threshold is {self.threshold}, expected a probability")


class CellClassifier(nn.Module):
    """Log-odds ``(B,)`` of settlement from cells ``(B, 3, H, W)``, float RGB in 0 to 1."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ClassifierConfig | None = None) -> None:
        # Takes long to import, and mapping without a classifier has no use for it.
        import timm

        super().__init__()
        self.config = config or ClassifierConfig()
        channels = tuple(self.config.width * factor for factor in (1, 2, 4, 8))
        self.network = timm.create_model(self.config.network, num_classes=1, channels=channels)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits[:, 0]


def save_classifier(
    path: Path, classifier: CellClassifier, metrics: dict[str, float], half: bool = False
) -> None:
    """Write a classifier file.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    config = {PREFIX: to_table(classifier.config)}
    header = CheckpointHeader(CLASSIFIER_PACK, NO_FOUNDATION, "", LABELS, config, metrics)
    checkpoint.save(path, module_tensors(classifier, PREFIX), header, half)


def load_classifier(path: Path) -> CellClassifier:
    """A trained classifier in evaluation mode on the CPU.

    Raises
    ------
    CheckpointError
        If the file is absent, damaged, a pickle, or no classifier.
    ConfigError
        If its header asks for a network that this version cannot build.
    """
    file = checkpoint.load(path, CLASSIFIER_PACK)
    table = file.header.config.get(PREFIX, {})
    classifier = CellClassifier(from_table(ClassifierConfig, table, f"header of {path}"))
    file.restore(classifier, PREFIX)
    return classifier.eval()
