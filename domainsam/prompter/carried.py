"""Labels that are carried from picture to picture by what is alike, cell by cell.

An outline that is moved as a whole knows nothing of a body that bends. Here every cell of a picture asks the
most similar cells near by, in the picture where the object was marked and in the last few, how much of them
was the object (as Jabri et al. 2020, arXiv:2006.14613, section 4, test features on films; no training). The
numbers below were chosen on generated films (``benchmarks/films.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.protocols import Window

Float32 = NDArray[np.float32]
PIXELS = 8
"""Pixels of a picture per cell that is asked, along each side: two of the cells that features come in."""
AROUND, AROUND_WEIGHT = 5, 0.7
"""Cells along a side whose mean stands beside a cell's own features, and what it counts."""
REACH = 12.0
"""Cells within which the most similar are looked for."""
ASKED = 5
"""Cells that are asked, of all pictures together."""
SHARPNESS = 1 / 0.03
"""Of the soft maximum over their cosines."""
LAST = 3
"""Pictures that are kept beside the first."""


@dataclass(frozen=True, eq=False)
class Glimpse:
    """Descriptors ``(D, h/8, w/8)`` of a window, and how much of each cell ``(h/8, w/8)`` is the object."""

    descriptors: Float32
    share: Float32
    window: Window


@dataclass(eq=False)
class Carried:
    """What labels are carried from.

    Parameters
    ----------
    centre
        ``(C,)`` float32, mean of the features where the object was marked: they are compared without it.
    first
        The picture where it was marked.
    last
        The last ones, at most :data:`LAST`.
    """

    centre: Float32
    first: Glimpse
    last: list[Glimpse] = field(default_factory=list)

    def describe(self, cells: Float32) -> Float32:
        """Descriptors ``(D, h/8, w/8)`` of cells ``(C, h/4, w/4)``."""
        return describe_places(cells, self.centre)

    def carry(self, descriptors: Float32, window: Window) -> Float32:
        """How much ``(h/4, w/4)`` of each cell of a window is the object, 0 to 1."""
        given = [self.first, *self.last]
        height, width = descriptors.shape[1:]
        share = np.zeros(height * width, np.float32)
        places = _list_places(descriptors.shape[1:], window)
        # Where nothing within reach was the object the answer is 0 without asking.
        asking = torch.zeros(len(places), dtype=torch.bool)
        for one in given:
            own = _list_places(one.share.shape, one.window)[torch.from_numpy(one.share.ravel() > 0)]
            if len(own):
                asking |= torch.cdist(places, own).amin(dim=1) <= REACH
        if asking.any():
            wanted = torch.from_numpy(descriptors.reshape(len(descriptors), -1))[:, asking]
            share[asking.numpy()] = _ask(wanted, places[asking], given)
        fine = torch.from_numpy(share.reshape(1, 1, height, width))
        return np.asarray(F.interpolate(fine, scale_factor=2, mode="bilinear")[0, 0].numpy(), np.float32)

    def keep(self, descriptors: Float32, mask: NDArray[np.bool_], window: Window) -> None:
        """Remember a picture by the mask ``(h/4, w/4)`` of what was found there."""
        self.last = [*self.last, Glimpse(descriptors, _halve(mask.astype(np.float32)), window)][-LAST:]


def learn_carried(cells: Float32, share: Float32, window: Window) -> Carried:
    """What labels are carried from, of the picture where an object was marked.

    Parameters
    ----------
    cells
        ``(C, h/4, w/4)`` as :func:`domainsam.prompter.dense.describe_cells` gives them.
    share
        ``(h/4, w/4)``, how much of each is the object.
    """
    centre = np.asarray(cells.mean(axis=(1, 2)), np.float32)
    return Carried(centre, Glimpse(describe_places(cells, centre), _halve(share), window))


def describe_places(cells: Float32, centre: Float32) -> Float32:
    """Descriptors ``(2 C, h/8, w/8)`` of length 1 of cells ``(C, h/4, w/4)``: each, and those around."""
    coarse = F.avg_pool2d(torch.from_numpy(np.asarray(cells, np.float32))[None], 2)
    own = F.normalize(coarse - torch.from_numpy(centre)[None, :, None, None], dim=1)
    around = F.avg_pool2d(own, AROUND, 1, AROUND // 2) * AROUND_WEIGHT
    return np.asarray(F.normalize(torch.cat([own, around], dim=1), dim=1)[0].numpy(), np.float32)


def _ask(wanted: Tensor, places: Tensor, given: list[Glimpse]) -> Float32:
    """The share ``(N,)`` that the most similar cells near ``places`` ``(N, 2)`` tell."""
    alike: list[Tensor] = []
    told: list[Tensor] = []
    for one in given:
        far = torch.cdist(places, _list_places(one.share.shape, one.window)) > REACH
        cosine = wanted.T @ torch.from_numpy(one.descriptors.reshape(len(one.descriptors), -1))
        best, which = cosine.masked_fill_(far, -torch.inf).topk(min(ASKED, far.shape[1]), dim=1)
        alike.append(best)
        told.append(torch.from_numpy(one.share.ravel())[which])
    best, which = torch.cat(alike, dim=1).topk(ASKED, dim=1)
    # Where no cell lies within reach nothing is known: the greatest is then no number to part from.
    weight = (best * SHARPNESS).softmax(dim=1).nan_to_num(0.0)
    return np.asarray((weight * torch.cat(told, dim=1).gather(1, which)).sum(dim=1).numpy(), np.float32)


def _list_places(shape: tuple[int, ...], window: Window) -> Tensor:
    """Row and column ``(N, 2)`` of a window's cells among those of its frame."""
    rows, cols = torch.meshgrid(
        torch.arange(shape[0]) + window.row / PIXELS,
        torch.arange(shape[1]) + window.col / PIXELS,
        indexing="ij",
    )
    return torch.stack([rows, cols], dim=-1).reshape(-1, 2).float()


def _halve(share: Float32) -> Float32:
    """Means ``(h/2, w/2)`` of two by two cells."""
    return np.asarray(F.avg_pool2d(torch.from_numpy(share)[None, None], 2)[0, 0].numpy(), np.float32)
