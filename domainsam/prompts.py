"""PromptSet: points, boxes, masks and tokens for a batch of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

POINT_PADDING = -1
POINT_NEGATIVE = 0
POINT_POSITIVE = 1


@dataclass(frozen=True)
class PromptSet:
    """``N`` prompts over a batch of images; each prompt asks for one mask.

    Coordinates are pixels of the image tensor that was encoded, ``x`` to the
    right and ``y`` down, with the corner of the first pixel at ``(0, 0)`` and
    its centre at ``(0.5, 0.5)``.

    Parameters
    ----------
    image_index
        ``(N,)`` int64: which image of the encoded batch each prompt belongs to.
    labels
        ``(N,)`` int64: the class each prompt stands for.
    scores
        ``(N,)`` float: the specialist's confidence, 0 to 1.
    points
        ``(N, P, 3)`` float ``x, y, label``; label 1 positive, 0 negative,
        -1 padding that is ignored.
    boxes
        ``(N, 4)`` float ``x1, y1, x2, y2``; ``x2`` and ``y2`` are exclusive edges.
    mask_logits
        ``(N, 1, H/4, W/4)`` float logits of a rough mask.
    tokens
        ``(N, T, C)`` sparse embeddings that take the place of those the
        foundation would make from points and boxes (``Foundation.embed``
        makes those, a mixer changes them). Points and boxes may stay beside
        them for foundations that also draw prompts as dense maps.

    Raises
    ------
    ValueError
        If a part disagrees in length or shape with the others.
    """

    image_index: Tensor
    labels: Tensor
    scores: Tensor
    points: Tensor | None = None
    boxes: Tensor | None = None
    mask_logits: Tensor | None = None
    tokens: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self)
        shapes: dict[str, tuple[int | None, ...]] = {
            "image_index": (count,),
            "labels": (count,),
            "scores": (count,),
            "points": (count, None, 3),
            "boxes": (count, 4),
            "mask_logits": (count, 1, None, None),
            "tokens": (count, None, None),
        }
        for name, expected in shapes.items():
            value = getattr(self, name)
            if value is None:
                continue
            given = tuple(value.shape)
            fits = len(given) == len(expected) and all(
                want is None or have == want for have, want in zip(given, expected, strict=True)
            )
            if not fits:
                pattern = "(" + ", ".join("*" if size is None else str(size) for size in expected) + ")"
                raise ValueError(f"PromptSet.{name} has shape {given}, expected {pattern}")

    def __len__(self) -> int:
        return int(self.image_index.shape[0])

    def __getitem__(self, keep: Tensor | slice) -> PromptSet:
        """The prompts chosen by a slice, an index tensor or a boolean tensor."""
        return self._each(lambda part: part[keep])

    def replace(self, **changes: Tensor | None) -> PromptSet:
        """A copy with the named parts changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def to(self, device: torch.device | str) -> PromptSet:
        """A copy on another device."""
        return self._each(lambda part: part.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> PromptSet:
        parts = ((field.name, getattr(self, field.name)) for field in fields(self))
        changed: dict[str, Any] = {name: change(part) for name, part in parts if part is not None}
        return PromptSet(**changed)

    @classmethod
    def from_one(
        cls,
        points: Tensor | None = None,
        box: Sequence[float] | Tensor | None = None,
        mask_logits: Tensor | None = None,
    ) -> PromptSet:
        """One prompt of image 0, class 1: points ``(1, P, 3)``, box ``(4,)``, mask ``(1, 1, H/4, W/4)``."""
        return cls(
            image_index=torch.zeros(1, dtype=torch.int64),
            labels=torch.ones(1, dtype=torch.int64),
            scores=torch.ones(1),
            points=points,
            boxes=None if box is None else torch.as_tensor(box, dtype=torch.float32)[None],
            mask_logits=mask_logits,
        )

    @classmethod
    def from_boxes(
        cls,
        boxes: Tensor,
        image_index: Tensor | None = None,
        labels: Tensor | None = None,
        scores: Tensor | None = None,
        mask_logits: Tensor | None = None,
    ) -> PromptSet:
        """Box prompts ``(N, 4)``; all of image 0, class 1 and score 1 unless told."""
        count, device = boxes.shape[0], boxes.device
        return cls(
            image_index=torch.zeros(count, dtype=torch.int64, device=device)
            if image_index is None
            else image_index,
            labels=torch.ones(count, dtype=torch.int64, device=device) if labels is None else labels,
            scores=torch.ones(count, device=device) if scores is None else scores,
            boxes=boxes,
            mask_logits=mask_logits,
        )
