"""Points go as PIPS says (Harley et al. 2022), with the network's official file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.errors import CheckpointError
from domainsam.foundation.loading import read_tensors
from domainsam.prompter.frozen import AGAIN
from domainsam.prompter.pips_network import FRAMES, STRIDE, WIDTH, PipsNetwork
from domainsam.prompter.query import Points
from domainsam.prompter.trackers import Visible, is_inside
from domainsam.protocols import View, Window

LONGEST = 640
"""Pixels of the longer side that pictures are brought to: those of the public demonstrations."""
SURE, EASED = 0.9, 0.02
"""The next eight pictures begin where a point is seen so surely, as late as can be; else at less by steps."""
EARLIEST = 2
"""... but not before this one of the eight (public code, ``chain_demo.py``)."""
SEEN = 0.5
KEPT = 2 * FRAMES


@dataclass
class PipsState:
    """What is known of points: where their eight pictures begin and what was found in them.

    ``begun`` is in frames, ``paths`` ``(P, 8, 2)`` in pixels of the view, ``seen`` ``(P, 8)`` probabilities;
    the next eight begin at number ``last`` of these. ``looks`` is how points looked where they were set.
    """

    frame: int
    points: Points
    begun: NDArray[np.int64] = field(init=False)
    last: NDArray[np.int64] = field(init=False)
    paths: NDArray[np.float64] = field(init=False)
    seen: NDArray[np.float64] = field(init=False)
    looks: Tensor | None = None
    maps: dict[int, Tensor] = field(default_factory=dict, metadata=AGAIN)

    def __post_init__(self) -> None:
        count = len(self.points)
        self.begun = np.full(count, self.frame)
        # Nothing is known yet: any step asks for the eight pictures from here.
        self.last = np.zeros(count, np.int64)
        self.paths = np.repeat(self.points[:, None], FRAMES, axis=1)
        self.seen = np.ones((count, FRAMES))


class PipsTracker:
    """Eight pictures at a time, each point in its own chain of them; a :class:`Tracker`.

    Looks up to seven pictures ahead, in whichever direction it goes.

    Parameters
    ----------
    weights
        The public code's file, such as ``model-000200000.pth``.
    device
        Where it computes.

    Raises
    ------
    CheckpointError
        If the file is another's.
    """

    def __init__(self, weights: str | Path, device: torch.device | str = "cpu") -> None:
        network = PipsNetwork()
        tensors = read_tensors(Path(weights), inert=True)
        if {name: part.shape for name, part in network.state_dict().items()} != {
            name: part.shape for name, part in tensors.items()
        }:
            raise CheckpointError(
                f"{weights} is no file of PIPS; expected the public code's reference_model/model-*.pth"
            )
        network.load_state_dict(tensors)
        self._network = network.eval().requires_grad_(False).to(device)
        self._device = torch.device(device)

    def begin(self, view: View, frame: int, points: Points) -> PipsState:
        """The points, all seen."""
        return PipsState(frame, points.copy())

    def step(self, view: View, state: PipsState, frame: int) -> tuple[Points, Visible]:
        """Points in the next picture forwards or backwards, and which are seen there."""
        way = 1 if frame >= state.frame else -1
        ahead = np.abs(frame - state.begun) > state.last
        for begin in np.unique((state.begun + way * state.last)[ahead]):
            chosen = np.flatnonzero(ahead & (state.begun + way * state.last == begin))
            self._look(view, state, int(begin), way, chosen)
        now = np.abs(frame - state.begun)
        every = np.arange(len(now))
        state.points, state.frame = state.paths[every, now].copy(), frame
        visible = (state.seen[every, now] > SEEN) & is_inside(state.points, view.shape)
        return state.points.copy(), visible

    def _look(self, view: View, state: PipsState, begin: int, way: int, chosen: NDArray[np.int64]) -> None:
        """Follow some points through the eight pictures from ``begin`` on."""
        frames = [min(max(begin + way * step, 0), view.frames - 1) for step in range(FRAMES)]
        maps = self._encode(view, state, frames)
        scale = self._scale(view)
        starts = state.paths[chosen, state.last[chosen]] * scale - 0.5
        looks = None if state.looks is None else state.looks[chosen]
        with torch.inference_mode():
            at = torch.from_numpy(starts).float().to(self._device)
            places, odds, first = self._network(maps, at, looks)
        if state.looks is None:
            state.looks = torch.zeros(len(state.points), WIDTH, device=self._device)
            state.looks[chosen] = first
        state.begun[chosen] = begin
        state.paths[chosen] = (places.transpose(0, 1).double().cpu().numpy() + 0.5) / scale
        state.seen[chosen] = odds.T.double().sigmoid().cpu().numpy()
        state.last[chosen] = [choose_next(seen) for seen in state.seen[chosen]]

    def _scale(self, view: View) -> NDArray[np.float64]:
        """Pixels of the network's pictures per pixel of the view, across and down."""
        rows, cols = view.shape
        height, width = _fit(view.shape)
        return np.array([width / cols, height / rows])

    def _encode(self, view: View, state: PipsState, frames: Sequence[int]) -> Tensor:
        """Features ``(8, 128, h, w)`` of pictures; each is encoded once, and the last ones are kept."""
        rows, cols = view.shape
        for frame in dict.fromkeys(frames):
            if frame in state.maps:
                continue
            while len(state.maps) >= KEPT:
                state.maps.pop(next(iter(state.maps)))
            image = torch.from_numpy(view.image(Window(0, 0, rows, cols, frame)))[None].to(self._device)
            with torch.inference_mode():
                small = F.interpolate(image, _fit(view.shape), mode="bilinear", align_corners=False)
                state.maps[frame] = self._network.encode(small)
        return torch.cat([state.maps[frame] for frame in frames])


def _fit(shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the network's pictures, multiples of its stride."""
    scale = min(1.0, LONGEST / max(shape))
    rows, cols = (max(2 * STRIDE, round(side * scale / STRIDE) * STRIDE) for side in shape)
    return rows, cols


def choose_next(seen: NDArray[np.float64]) -> int:
    """Which of eight pictures the next eight begin with: the last in which a point is surely seen."""
    least = SURE
    while True:
        sure = np.flatnonzero(seen[EARLIEST:] > least)
        if len(sure):
            return int(sure[-1]) + EARLIEST
        least -= EASED
