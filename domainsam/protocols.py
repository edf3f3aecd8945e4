"""The seams between the parts: small values, and what each part must offer.

Nothing here holds code that computes; the parts that meet at a seam import
these names and never each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from domainsam.grid import Grid
from domainsam.prompts import PromptSet


@dataclass(frozen=True)
class Window:
    """A rectangle of a grid in whole elements; ``row`` and ``col`` may be negative at a scene's edge."""

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices of an array that covers the grid."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)


@dataclass(frozen=True)
class Block:
    """One piece of a scene, volume or recording, ready for a network.

    ``image`` is ``(C, H, W)`` float32 in 0 to 1, ``valid`` is ``(H, W)`` bool
    and false where the source has no data (there ``image`` is 0).
    """

    index: Window
    image: NDArray[np.float32]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Features:
    """What a foundation's encoder returns for a batch of images.

    ``image`` is ``(B, 256, H/16, W/16)``; ``levels`` holds finer levels,
    finest first (``(B, c, H/4, W/4)``, ``(B, c, H/8, W/8)``), and is empty for
    foundations without them. ``size`` is the ``(H, W)`` of the encoded images.
    """

    image: Tensor
    levels: tuple[Tensor, ...]
    size: tuple[int, int]

    def __getitem__(self, keep: Tensor | slice) -> Features:
        """The features of some images of the batch."""
        return Features(self.image[keep], tuple(level[keep] for level in self.levels), self.size)


@dataclass(frozen=True)
class Masks:
    """A foundation's answer to ``N`` prompts.

    ``logits`` is ``(N, K, H/4, W/4)``, above 0 inside; ``iou`` is ``(N, K)``,
    the foundation's own estimate of each mask's IoU. ``K`` is 1, or 3 where
    several readings of an ambiguous prompt were asked for.
    """

    logits: Tensor
    iou: Tensor

    def best(self) -> Masks:
        """For every prompt the reading with the highest estimated IoU, ``K = 1``."""
        choice = self.iou.argmax(dim=1)
        rows = choice.new_tensor(range(len(choice)))
        return Masks(self.logits[rows, choice][:, None], self.iou[rows, choice][:, None])


@dataclass(frozen=True)
class Coarse:
    """A specialist's first look at a batch of images.

    ``logits`` is ``(B, K, H/4, W/4)``, class 0 background; ``features`` is
    ``(B, D, H/4, W/4)``, the fused feature the logits were made from.
    """

    logits: Tensor
    features: Tensor


@runtime_checkable
class Foundation(Protocol):
    """A frozen promptable generalist.

    It holds no trainable parameter, never changes mode, and gives an image
    the same answer whatever the batch around it.
    """

    name: str
    image_size: int
    """Side in pixels of the square images it was trained on."""
    sha256: str
    """Digest of its tensors: what a checkpoint of ours says it fits on."""

    @property
    def device(self) -> Any:
        """The ``torch.device`` it computes on."""
        ...

    def encode(self, images: Tensor) -> Features:
        """Features of RGB images ``(B, 3, H, W)``, float in 0 to 1, ``H`` and ``W`` multiples of 32."""
        ...

    def embed(self, prompts: PromptSet, size: tuple[int, int]) -> Tensor:
        """Sparse tokens ``(N, T, 256)`` of the points and boxes, for an encoded image of ``size`` (H, W)."""
        ...

    def decode(self, features: Features, prompts: PromptSet, multimask: bool = False) -> Masks:
        """Masks for the prompts; gradients flow to ``prompts`` and ``features``, never to weights."""
        ...


@runtime_checkable
class Prompter(Protocol):
    """A small trained specialist that finds objects and words prompts for them."""

    def coarse(self, images: Tensor) -> Coarse:
        """First look at images ``(B, 3, H, W)``, float in 0 to 1."""
        ...

    def prompts(self, coarse: Coarse, features: Features, foundation: Foundation) -> PromptSet:
        """Prompts for the objects in the first look, possibly none."""
        ...


@runtime_checkable
class SideNetwork(Protocol):
    """A trained network that runs beside the frozen encoder and corrects its features."""

    def refine(self, images: Tensor, features: Features) -> Features:
        """Corrected features of the same shapes."""
        ...


@runtime_checkable
class MemoryBank(Protocol):
    """What was seen in earlier slices, years or modalities, offered to the next."""

    def read(self, features: Features) -> Features: ...

    def write(self, key: object, features: Features, masks: Masks) -> None: ...

    def reset(self) -> None: ...


@runtime_checkable
class Source(Protocol):
    """A scene that is read block by block."""

    @property
    def grid(self) -> Grid: ...

    def read(self, window: Window) -> Block:
        """One block; parts outside the scene are invalid."""
        ...

    def blocks(self, size: int, overlap: int) -> Iterator[Block]: ...


@runtime_checkable
class Writer(Protocol):
    """An output that appears only when complete and leaves nothing behind on failure."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def write(self, index: Window, values: NDArray[np.uint8]) -> None: ...
