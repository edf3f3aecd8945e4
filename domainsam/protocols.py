"""Protocols and values shared by all parts: Window, Block, Features, Masks, Foundation, Source, Writer.

Nothing here holds code that computes; the parts that meet at a seam import
these names and never each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from domainsam.errors import InputError
from domainsam.grid import Grid
from domainsam.prompts import PromptSet


@dataclass(frozen=True)
class Window:
    """A rectangle of a grid in whole elements; ``row`` and ``col`` may be negative at a scene's edge.

    ``frame`` is the picture it lies in, counted from 0: a slice of a volume, a
    year of a series, a picture of a film. A raster has one frame, number 0.
    """

    row: int
    col: int
    height: int
    width: int
    frame: int = 0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices of an array that covers the grid."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    @property
    def box(self) -> Box:
        """Its edges."""
        right, bottom = self.col + self.width, self.row + self.height
        return float(self.col), float(self.row), float(right), float(bottom)


@dataclass(frozen=True)
class Block:
    """One piece of a scene, volume or recording, ready for a network.

    ``image`` is ``(C, H, W)`` float32 in 0 to 1, ``valid`` is ``(H, W)`` bool
    and false where the source has no data (there ``image`` is 0).

    ``seen`` ``(H, W)`` bool is true where the picture shows ground, be it that
    nobody wants an answer there; None where that is what is valid.
    """

    index: Window
    image: NDArray[np.float32]
    valid: NDArray[np.bool_]
    seen: NDArray[np.bool_] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Click:
    """A point that a person or a program marked.

    ``x`` to the right and ``y`` down, in scene pixels; the first pixel's
    corner is (0, 0), its centre (0.5, 0.5). ``inside`` says whether the point
    lies on the object or beside it.
    """

    x: float
    y: float
    inside: bool = True


Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom in scene pixels, corner frame; right and bottom are exclusive edges."""


@dataclass(frozen=True, eq=False)
class SceneObject:
    """An object of a scene as a prompt source reports it; coordinates are the scene's, never a tile's.

    Parameters
    ----------
    bounds
        The smallest window, in whole pixels of its frame, that holds box, mask
        and the points inside the object; :meth:`marked` computes it.
    label
        What it is, where that is known.
    score
        Confidence, 0 to 1.
    points
        Clicks on the object and beside it.
    box
        Left, top, right, bottom in scene pixels, corner frame.
    mask
        ``(bounds.height, bounds.width)`` bool, a rough outline.
    text
        The words that it was found by, or that describe it.

    Raises
    ------
    InputError
        If nothing says where it is (no box, no mask, no point inside), if a
        number is not finite, the box is empty, the mask is empty or of another
        size than ``bounds``, the score is outside 0 to 1, or a part lies
        outside ``bounds``.
    """

    bounds: Window
    label: str | None = None
    score: float = 1.0
    points: tuple[Click, ...] = ()
    box: Box | None = None
    mask: NDArray[np.bool_] | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise InputError(f"an object's score is {self.score}; expected 0 to 1")
        _check_mask(self.mask, self.bounds)
        held = _smallest_window(self.points, self.box, self.mask, self.bounds)
        outer = self.bounds
        inside = (
            outer.row <= held.row
            and outer.col <= held.col
            and held.row + held.height <= outer.row + outer.height
            and held.col + held.width <= outer.col + outer.width
        )
        if not inside:
            raise InputError(f"an object's box and points need {held}; its bounds are only {outer}")

    @property
    def extent_known(self) -> bool:
        """Whether a box or a mask says how far it reaches; a click alone does not."""
        return self.box is not None or self.mask is not None

    @classmethod
    def marked(
        cls,
        points: Sequence[Click] = (),
        box: Box | None = None,
        frame: int = 0,
        label: str | None = None,
        score: float = 1.0,
        text: str | None = None,
    ) -> SceneObject:
        """The object that clicks, or a box, or both mark in a frame, with the bounds they need.

        Raises
        ------
        InputError
            As for the class.
        """
        bounds = _smallest_window(tuple(points), box, None, Window(0, 0, 0, 0, frame))
        return cls(bounds, label, score, tuple(points), box, None, text)


def _check_mask(mask: NDArray[np.bool_] | None, bounds: Window) -> None:
    if mask is None:
        return
    if mask.shape != (bounds.height, bounds.width) or mask.dtype != np.bool_:
        raise InputError(
            f"an object's mask is {mask.shape} {mask.dtype}; "
            f"expected bool of its bounds, {(bounds.height, bounds.width)}"
        )
    if not mask.any():
        raise InputError("an object's mask is empty; expected at least one pixel inside")


def _smallest_window(
    points: Sequence[Click], box: Box | None, mask: NDArray[np.bool_] | None, bounds: Window
) -> Window:
    """The smallest window, in the frame of ``bounds``, that holds all that is given."""
    rows: list[int] = []
    cols: list[int] = []
    for point in points:
        if not (math.isfinite(point.x) and math.isfinite(point.y)):
            raise InputError(f"an object's point is ({point.x}, {point.y}); expected finite numbers")
        if point.inside:
            rows += [math.floor(point.y), math.floor(point.y) + 1]
            cols += [math.floor(point.x), math.floor(point.x) + 1]
    if box is not None:
        left, top, right, bottom = box
        if not all(map(math.isfinite, box)) or left >= right or top >= bottom:
            raise InputError(
                f"an object's box is {box}; expected finite left, top, right, bottom with left < right "
                "and top < bottom"
            )
        rows += [math.floor(top), math.ceil(bottom)]
        cols += [math.floor(left), math.ceil(right)]
    if mask is not None:
        rows += [bounds.row, bounds.row + bounds.height]
        cols += [bounds.col, bounds.col + bounds.width]
    if not rows:
        raise InputError(
            "an object has no box, no mask and no point inside; give one, so that its place is known"
        )
    return Window(min(rows), min(cols), max(rows) - min(rows), max(cols) - min(cols), bounds.frame)


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
    ``(B, D, H/4, W/4)``, the fused feature the logits were made from, None
    where no prompt will be made of it.
    """

    logits: Tensor
    features: Tensor | None


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
class SideNetwork(Protocol):
    """A trained network that runs beside the frozen encoder and corrects its features."""

    def refine(self, images: Tensor, features: Features) -> Features:
        """Corrected features of the same shapes."""
        ...


@runtime_checkable
class View(Protocol):
    """A scene, volume or film as prompt sources look at it: its pictures, and features of them."""

    @property
    def grid(self) -> Grid:
        """Where its elements lie in the world."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        ...

    @property
    def frames(self) -> int:
        """Number of frames; 1 for a raster."""
        ...

    def block(self, window: Window) -> Block:
        """Picture of ``window``, and where it holds data."""
        ...

    def image(self, window: Window) -> NDArray[np.float32]:
        """RGB picture ``(3, h, w)`` float32 in 0 to 1; 0 outside the scene and where there is no data."""
        ...

    def features(self, window: Window) -> Features:
        """Features (``B = 1``) of the picture of ``window``; encoded once and kept."""
        ...


@runtime_checkable
class PromptSource(Protocol):
    """Says where objects are: a person's clicks, a trained specialist, an example, a word."""

    def find(self, view: View) -> Iterator[SceneObject]:
        """The objects of a view, in scene coordinates; possibly none.

        Raises
        ------
        InputError
            If what was marked does not fit the view.
        """
        ...


@dataclass(frozen=True)
class Word:
    """A word of a vocabulary: its name, and other words for the same thing."""

    name: str
    synonyms: tuple[str, ...] = ()

    @property
    def phrases(self) -> tuple[str, ...]:
        """The name, then its synonyms."""
        return (self.name, *self.synonyms)


@dataclass(frozen=True)
class Understood:
    """How a model takes a word.

    ``known`` is the word it knows that comes nearest, ``nearness`` the cosine of the two; both are None for
    a model that reads any word. ``classes`` are the numbers of the model's own classes that the known word
    stands for, the same for synonyms, several for a word such as vehicle; none where it has no classes.
    """

    word: str
    known: str | None = None
    nearness: float | None = None
    classes: frozenset[int] = frozenset()


@runtime_checkable
class Namer(Protocol):
    """Says what objects are, among words that a person gives.

    It is handed a view, not features, because some look at pixels with a network of their own; one that
    shares the view's foundation takes the view's features (:func:`domainsam.vocabulary.looks.encode_look`).
    """

    name: str
    """As :mod:`domainsam.vocabularies` lists it."""
    side: int
    """Side in pixels of the pictures that it sees objects in best."""

    def understand(self, words: Sequence[Word]) -> tuple[Understood, ...]:
        """How each word is taken, in their order.

        Raises
        ------
        InputError
            If a word is far from all that it knows; the nearest known ones are told.
        """
        ...

    def name_objects(
        self, view: View, objects: Sequence[SceneObject], words: Sequence[Word]
    ) -> NDArray[np.float32]:
        """How well each word fits each object.

        Parameters
        ----------
        view
            Where the objects lie.
        objects
            With a mask or a box; one with points alone is taken as its bounds.
        words
            At least one.

        Returns
        -------
        scores
            ``(N, K)`` float32 in 0 to 1, a row's sum at most 1: what is left is that none of the words
            fits. A row of NaN is no answer. A row does not depend on the other objects.
        """
        ...


@runtime_checkable
class WordMapper(Protocol):
    """Says of every place what it shows, among words that a person gives."""

    def map_words(self, view: View, window: Window, words: Sequence[Word]) -> NDArray[np.float32]:
        """How well each word fits each place of a window whose sides are multiples of 32.

        Returns
        -------
        scores
            ``(K, h/4, w/4)`` float32 in 0 to 1, the sum over words at most 1.
        """
        ...


@runtime_checkable
class WordFinder(Protocol):
    """Finds objects by words without proposals of others."""

    def find_words(self, view: View, words: Sequence[Word]) -> Iterator[SceneObject]:
        """Objects in scene coordinates, ``label`` a word's name, ``score`` how sure; possibly none."""
        ...


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
