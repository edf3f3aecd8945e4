"""Classifier of ground cells: a small ResNet that tells where settlement may be.

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
from torch.nn import functional as F

from domainsam import checkpoint
from domainsam.checkpoint import NO_FOUNDATION, CheckpointHeader, collect_tensors
from domainsam.config import from_table, to_table
from domainsam.errors import ConfigError
from domainsam.foundations import IMAGENET
from domainsam.prompter.segformer import SegFormerPrompter
from domainsam.prompts import PromptSet
from domainsam.protocols import Coarse, Features, Foundation

CLASSIFIER_PACK = "urban classifier"
"""What its files call themselves, so that no other model is taken for one."""
PREFIX = "classifier"
LABELS = ("empty", "settlement")

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
        self.register_buffer("mean", torch.tensor(IMAGENET.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET.std).view(3, 1, 1), persistent=False)

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
    checkpoint.save(path, collect_tensors(classifier, PREFIX), header, half)


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


STRIDE = 4
"""Pixels along one of the specialist's logits."""
CERTAIN = 30.0
"""Log-odds of an empty cell: probability 0 in every precision."""
NEAR = 1.05
"""Resolutions closer than this are taken for one."""


class ScreenedPrompter(nn.Module):
    """A prompter whose first look passes over cells that the classifier finds empty.

    A tile without any other cell never reaches the prompter. In other tiles
    the empty cells' probability becomes 0; where cells overlap, one that may
    hold settlement is enough to keep the ground.

    Parameters
    ----------
    prompter
        The specialist.
    classifier
        Judges cells of a tile.
    resolution
        Ground pixel in metres of the images; cells are cut to the ground that
        the classifier was trained on. None takes pixels as they are.
    """

    threshold: Tensor

    def __init__(
        self, prompter: SegFormerPrompter, classifier: CellClassifier, resolution: float | None = None
    ) -> None:
        super().__init__()
        self.prompter, self.classifier = prompter, classifier
        # Among the tensors, so that a run is never resumed with another threshold.
        self.register_buffer("threshold", torch.tensor(classifier.config.threshold))
        learnt = classifier.config.resolution
        ratio = 1.0 if resolution is None or learnt is None else learnt / resolution
        same = 1 / NEAR < ratio < NEAR
        self.side = classifier.config.side if same else max(STRIDE, round(classifier.config.side * ratio))

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits ``(B, 2, H/4, W/4)``; those of empty cells say background."""
        settled = self.settled(images)
        height, width = settled.shape[1:]
        logits = images.new_full((len(images), 2, height, width), -CERTAIN)
        logits[:, 0] = CERTAIN
        some = settled.flatten(1).any(dim=1)
        if some.any():
            seen = self.prompter.coarse_logits(images[some])
            logits[some] = torch.where(settled[some][:, None], seen.to(logits.dtype), logits[some])
        return logits

    def settled(self, images: Tensor) -> Tensor:
        """Whether settlement is expected, ``(B, H/4, W/4)`` bool."""
        count, _, height, width = images.shape
        settled = torch.zeros(
            count, height // STRIDE, width // STRIDE, dtype=torch.bool, device=images.device
        )
        for row in place_cells(height, self.side):
            for col in place_cells(width, self.side):
                cell = images[:, :, row : row + self.side, col : col + self.side]
                kept = self._probability(cell) >= self.threshold
                down, across = (slice(at // STRIDE, -(-(at + self.side) // STRIDE)) for at in (row, col))
                settled[:, down, across] |= kept[:, None, None]
        return settled

    def _probability(self, cells: Tensor) -> Tensor:
        side = self.classifier.config.side
        if self.side != side:
            size = [max(32, round(length * side / self.side)) for length in cells.shape[-2:]]
            cells = F.interpolate(cells, size, mode="bilinear", align_corners=False, antialias=True)
        return torch.sigmoid(self.classifier(cells).float())

    @property
    def adds_feature(self) -> bool:
        """The prompter's own."""
        return self.prompter.adds_feature

    def coarse(self, images: Tensor) -> Coarse:
        """The prompter's own, of crops that hold objects already."""
        return self.prompter.coarse(images)

    def prompts(
        self, coarse: Coarse, features: Features, foundation: Foundation, proposals: PromptSet | None = None
    ) -> PromptSet:
        """The prompter's own."""
        return self.prompter.prompts(coarse, features, foundation, proposals)

    def fuse(self, coarse_logits: Tensor, mask_logits: Tensor) -> Tensor:
        """The prompter's own."""
        return self.prompter.fuse(coarse_logits, mask_logits)


def place_cells(length: int, side: int) -> list[int]:
    """Where cells begin that cover a length, evenly spread; the last one ends with it."""
    count = max(1, -(-length // side))
    return [index * max(0, length - side) // max(1, count - 1) for index in range(count)]
