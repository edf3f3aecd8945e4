"""Pass one: a dense network's planes, blended over every frame of a scene.

For models that label every pixel by themselves it is the only pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domainsam.infer.blend import BandBlend, store_shares
from domainsam.infer.networks import Networks, ScenePrompter, coarse_logits, compute_foreground, upsample
from domainsam.infer.order import Course, ReadAhead, Recorder, Strip, Unit
from domainsam.protocols import Block, Window

AnyBlock = TypeVar("AnyBlock", bound=Block)
SeenBlock = TypeVar("SeenBlock", bound=Block, contravariant=True)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a dense model says about one block.

    ``planes`` are ``(h, w)`` arrays of numbers, as many as the model has;
    ``valid`` ``(h, w)`` bool says where they count.
    """

    planes: Sequence[NDArray[Any]]
    valid: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BlockPrediction:
    """What a pack's model says about one block, in one form for every pack.

    Parameters
    ----------
    names
        The classes, ``"background"`` first where the model has one.
    labels
        ``(h, w)`` uint8, an index into ``names``; 255 without data.
    probability
        ``(len(names), h, w)`` float32, summing to 1 over classes where there is data.
    valid
        ``(h, w)`` bool, false without data.
    """

    names: tuple[str, ...]
    labels: NDArray[np.uint8]
    probability: NDArray[np.float32]
    valid: NDArray[np.bool_]


class DenseModel(Protocol[SeenBlock]):
    """A network that says something about every pixel of a block.

    Its planes are averaged where blocks overlap, with weights that fall to the
    edges, and the means become the bytes of its staged outputs.
    """

    @property
    def planes(self) -> int:
        """Number of planes that it answers and that are averaged."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the staged bytes that :meth:`finish` makes, in its order."""
        ...

    @property
    def context(self) -> int:
        """Frames before and after a block's own that it looks at."""
        ...

    def running(self) -> AbstractContextManager[None]:
        """The context in which it computes: no gradients, its precision."""
        ...

    def answer(
        self, blocks: Sequence[SeenBlock], before: Sequence[SeenBlock], after: Sequence[SeenBlock]
    ) -> Sequence[Answer]:
        """One answer a block; ``before`` and ``after`` hold blocks of up to :attr:`context` frames around."""
        ...

    def finish(self, means: NDArray[np.float32], seen: NDArray[np.bool_]) -> Sequence[NDArray[np.uint8]]:
        """Bytes ``(h, w)`` of every output from means ``(planes, h, w)``, 255 where nothing was ``seen``."""
        ...


@dataclass(frozen=True)
class FirstLook:
    """The specialist's probability that a pixel belongs to an object, as a dense model."""

    prompter: ScenePrompter
    networks: Networks
    planes: int = 1
    outputs: tuple[str, ...] = ("coarse",)
    context: int = 0
    views: int = 1
    """How many of a picture's quarter turns (4), and of their mirror images (8), are averaged."""

    def running(self) -> AbstractContextManager[None]:
        """No gradients, and the asked-for precision."""
        return self.networks.running()

    def answer(
        self, blocks: Sequence[Block], before: Sequence[Block], after: Sequence[Block]
    ) -> Sequence[Answer]:
        """The probability of each block, at its own pixels."""
        images = self.networks.images(blocks)
        probability = average_views(self._look, images, self.views).cpu().numpy()
        return [Answer(list(planes), block.valid) for planes, block in zip(probability, blocks, strict=True)]

    def _look(self, images: Tensor) -> Tensor:
        """Probability ``(B, 1, h, w)`` at the pixels of images ``(B, 3, h, w)``."""
        logits = coarse_logits(self.prompter, images)
        return upsample(compute_foreground(logits), (images.shape[-2], images.shape[-1]))

    def finish(self, means: NDArray[np.float32], seen: NDArray[np.bool_]) -> Sequence[NDArray[np.uint8]]:
        """The stored probability."""
        return (store_shares(means[0], seen),)


def average_views(look: Callable[[Tensor], Tensor], images: Tensor, views: int) -> Tensor:
    """The mean answer to turned and mirrored images, each turned back.

    Parameters
    ----------
    look
        Answers images ``(B, C, h, w)`` with maps ``(B, K, h, w)``.
    views
        1; 4 for all quarter turns; 8 for these and their mirror images.

    Returns
    -------
    ``(B, K, h, w)``.
    """
    if views == 1:
        return look(images)
    total = torch.zeros(())
    for mirrored in (False, True)[: max(1, views // 4)]:
        shown = images.flip(-1) if mirrored else images
        for turn in range(min(views, 4)):
            answer = torch.rot90(look(torch.rot90(shown, turn, (-2, -1))), -turn, (-2, -1))
            total = total.to(answer) + (answer.flip(-1) if mirrored else answer)
    return total / views


@dataclass(frozen=True)
class Extent:
    """Probability 0 wherever the scene has data: pass one where somebody else says what objects there are."""

    planes: int = 1
    outputs: tuple[str, ...] = ("coarse",)
    context: int = 0

    def running(self) -> AbstractContextManager[None]:
        """Nothing is computed."""
        return nullcontext()

    def answer(
        self, blocks: Sequence[Block], before: Sequence[Block], after: Sequence[Block]
    ) -> Sequence[Answer]:
        """Zeros, valid where the blocks are."""
        return [Answer([np.zeros(block.valid.shape, np.float32)], block.valid) for block in blocks]

    def finish(self, means: NDArray[np.float32], seen: NDArray[np.bool_]) -> Sequence[NDArray[np.uint8]]:
        """0, or 255 without data."""
        return (store_shares(means[0], seen),)


def sweep_strip(
    read: Callable[[Window], AnyBlock],
    model: DenseModel[AnyBlock],
    course: Course,
    strip: Strip,
    recorder: Recorder,
    advanced: Callable[[int], None],
    batch_size: int = 1,
    workers: int = 1,
    margin: int = 0,
) -> None:
    """Sweep what is left of one strip.

    Parameters
    ----------
    read
        Gives the block of a window; called from ``workers`` threads.
    advanced
        Told the number of pixels that each unit finished.
    batch_size
        Blocks that go through the network together, of one unit.
    margin
        Pixels along a block's edges from which no answer is taken where a neighbour has one.
    """
    bands = {
        frame: BandBlend(course.grid.size[0], strip.columns, strip.top, model.planes, margin, course.shape)
        for frame in strip.frames
    }
    around = _frames_around(strip.frames, model.context, course.frames[-1].stop)
    rows = [course.grid.row_windows(unit.row, strip.columns) for unit in strip.units]
    windows = [replace(window, frame=frame) for row in rows for frame in around for window in row]
    with ReadAhead(workers, workers + batch_size) as reader, model.running():
        blocks = reader.map(read, windows)
        for unit, row in zip(strip.units, rows, strict=True):
            before = tuple(islice(blocks, len(row) * (strip.frames.start - around.start)))
            own = islice(blocks, len(row) * len(strip.frames))
            later = len(row) * (around.stop - strip.frames.stop)
            for batch, after in _batches(own, blocks, batch_size, later):
                answers = model.answer(batch, before, after)
                for block, answer in zip(batch, answers, strict=True):
                    bands[block.index.frame].add(block.index, answer.planes, answer.valid)
            if not unit.repeated:
                recorder.record(unit, _finish(model, bands, unit))
                advanced(unit.pixels)


def _frames_around(frames: range, context: int, count: int) -> range:
    return range(max(0, frames.start - context), min(count, frames.stop + context))


def _batches(
    own: Iterator[AnyBlock], following: Iterator[AnyBlock], size: int, later: int
) -> Iterator[tuple[Sequence[AnyBlock], Sequence[AnyBlock]]]:
    """Groups of a unit's blocks that hold any data, and the blocks of the frames after the last group."""
    group: list[AnyBlock] = []
    for block in own:
        if not block.valid.any():
            continue
        if len(group) == size:
            yield group, ()
            group = []
        group.append(block)
    after = tuple(islice(following, later))
    if group:
        yield group, after


def _finish(
    model: DenseModel[AnyBlock], bands: dict[int, BandBlend], unit: Unit
) -> list[Sequence[NDArray[np.uint8]]]:
    return [model.finish(*bands[frame].finish(unit.rows[1])) for frame in unit.frames]
