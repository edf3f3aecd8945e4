"""A specialist that looks only where a classifier expects settlement."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.prompter.segformer import SegFormerPrompter
from domainsam.prompts import PromptSet
from domainsam.protocols import Coarse, Features, Foundation
from domainsam_urban.classifier import CellClassifier

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
        for row in starts(height, self.side):
            for col in starts(width, self.side):
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


def starts(length: int, side: int) -> list[int]:
    """Where cells begin that cover a length, evenly spread; the last one ends with it."""
    count = max(1, -(-length // side))
    return [index * max(0, length - side) // max(1, count - 1) for index in range(count)]
