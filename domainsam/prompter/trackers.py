"""Who follows points from picture to picture: features of the foundation, optical flow, or nobody."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.errors import CheckpointError, ConfigError
from domainsam.foundation.loading import read_tensors
from domainsam.prompter.descriptors import CELL, centre_window, describe_features
from domainsam.prompter.frozen import AGAIN
from domainsam.prompter.query import Points
from domainsam.protocols import View, Window

BORDER = 0.01
"""Points this share of a side, or nearer, from an edge count as not visible (SAM-PT's code)."""

Visible = NDArray[np.bool_]
"""``(P,)``: which points are seen in a picture."""


@runtime_checkable
class Tracker(Protocol):
    """Follows points, one picture after the other, forwards or backwards; holds no picture but the last."""

    def begin(self, view: View, frame: int, points: Points) -> Any:
        """What is kept of points ``(P, 2)`` in the frame where they were set."""
        ...

    def step(self, view: View, state: Any, frame: int) -> tuple[Points, Visible]:
        """Where they are in the next frame, and which are seen; changes ``state``."""
        ...


class StillTracker:
    """Points stay where they are: for pictures that lie on one grid, as years of one place do."""

    def begin(self, view: View, frame: int, points: Points) -> Points:
        """The points."""
        return points.copy()

    def step(self, view: View, state: Points, frame: int) -> tuple[Points, Visible]:
        """The same points."""
        return state.copy(), is_inside(state, view.shape)


@dataclass
class FeatureState:
    """Points ``(P, 2)``, descriptors ``(P, D)`` where they were set and where last seen, the last picture.

    ``descriptors`` of that picture's window are computed again where they are None.
    """

    points: Points
    first: Tensor
    last: Tensor
    window: Window
    descriptors: Tensor | None = field(default=None, metadata=AGAIN)


class FeatureTracker:
    """Each point goes to where the foundation's features are most alike, if it finds the way back.

    A point's descriptor where it was set and where it was last seen are compared with those within
    ``radius`` pixels; the place between cells comes from a soft maximum. It is seen if the same search
    from there leads back to within :attr:`BACK` pixels (forward-backward check, Kalal et al. 2010), and
    it still looks like what was set. Points that are not seen move with the median of those that are.

    Parameters
    ----------
    side
        Side in pixels of the windows that pictures are encoded in: the foundation's image size.
    radius
        How far a point may move from one picture to the next, in pixels.
    alike
        Least cosine with the descriptor that was set.
    """

    BACK = 12.0
    SHARPNESS = 40.0
    """Of the soft maximum over the nine cells around the best."""

    def __init__(self, side: int, radius: float = 64.0, alike: float = 0.6) -> None:
        if radius <= 0:
            raise ConfigError(f"points may move {radius} pixels; expected more than 0")
        self.side, self.radius, self.alike = side, radius, alike

    def begin(self, view: View, frame: int, points: Points) -> FeatureState:
        """Descriptors of the points."""
        window, descriptors = self._describe(view, frame, points)
        own = sample_descriptors(descriptors, points, window)
        return FeatureState(points.copy(), own, own.clone(), window, descriptors)

    def step(self, view: View, state: FeatureState, frame: int) -> tuple[Points, Visible]:
        """Where the points are in ``frame``, and which are seen."""
        before = state.points
        if state.descriptors is None:
            state.descriptors = self._describe_window(view, state.window)
        window, descriptors = self._describe(view, frame, before)
        found = self._match(descriptors, window, before, F.normalize(state.first + state.last, dim=1))
        there = sample_descriptors(descriptors, found, window)
        back = self._match(state.descriptors, state.window, found, there)
        seen = np.hypot(*(back - before).T) <= self.BACK
        seen &= ((there * state.first).sum(dim=1) >= self.alike).cpu().numpy()
        shift = np.median((found - before)[seen], axis=0) if seen.any() else np.zeros(2)
        found = np.where(seen[:, None], found, before + shift)
        state.points, state.window, state.descriptors = found, window, descriptors
        told = torch.from_numpy(seen).to(there.device)
        state.last = torch.where(told[:, None], there, state.last)
        return found.copy(), seen & is_inside(found, view.shape)

    def _describe(self, view: View, frame: int, points: Points) -> tuple[Window, Tensor]:
        left, top = (int(edge) for edge in np.floor(points.min(axis=0)))
        right, bottom = (int(edge) + 1 for edge in np.floor(points.max(axis=0)))
        around = Window(top, left, bottom - top, right - left, frame)
        window = centre_window(view.shape, around, self.side)
        return window, self._describe_window(view, window)

    def _describe_window(self, view: View, window: Window) -> Tensor:
        with torch.inference_mode():
            return describe_features(view.features(window))

    def _match(self, descriptors: Tensor, window: Window, points: Points, wanted: Tensor) -> Points:
        """Where within the radius of ``points`` descriptors are most like ``wanted`` ``(P, D)``."""
        alike = torch.einsum("pd,dhw->phw", wanted, descriptors)
        height, width = alike.shape[1:]
        ys = torch.arange(height, device=alike.device) + 0.5
        xs = torch.arange(width, device=alike.device) + 0.5
        at = torch.from_numpy((points - (window.col, window.row)) / CELL).to(alike)
        far = (ys[None, :, None] - at[:, 1, None, None]) ** 2 + (xs[None, None] - at[:, 0, None, None]) ** 2
        alike = alike.masked_fill(far > max(self.radius / CELL, 1.0) ** 2, -2.0)
        best = alike.flatten(1).argmax(dim=1)
        rows, cols = best // width, best % width
        near = (ys[None, :, None] - 0.5 - rows[:, None, None]).abs() <= 1
        near = near & ((xs[None, None] - 0.5 - cols[:, None, None]).abs() <= 1)
        weight = ((alike * self.SHARPNESS).masked_fill(~near, -torch.inf)).flatten(1).softmax(dim=1)
        weight = weight.view_as(alike)
        x, y = (weight * xs).sum(dim=(1, 2)), (weight * ys[:, None]).sum(dim=(1, 2))
        places = torch.stack([x, y], dim=1).double().cpu().numpy() * CELL
        return np.asarray(places + np.array([window.col, window.row]))


def sample_descriptors(descriptors: Tensor, points: Points, window: Window) -> Tensor:
    """Descriptors ``(P, D)``, of length 1, at points of a window, between cells bilinearly."""
    size = np.array([window.width, window.height])
    places = (points - (window.col, window.row)) / size * 2 - 1
    grid = torch.from_numpy(places).to(descriptors)[None, :, None]
    taken = F.grid_sample(descriptors[None], grid, padding_mode="border", align_corners=False)
    return F.normalize(taken[0, :, :, 0].T, dim=1)


@dataclass
class FlowState:
    """Points ``(P, 2)``, which were seen so far, and the last frame."""

    points: Points
    seen: Visible
    frame: int


class FlowTracker:
    """Points go with optical flow: RAFT (Teed and Deng 2020), torchvision's network and the user's file.

    A point is seen while flow forwards and flow backwards cancel within
    ``0.01 * (|f|^2 + |b|^2) + 0.5`` square pixels (Sundaram et al. 2010, equation 5); once lost it stays so.

    Parameters
    ----------
    weights
        A file of torchvision's ``raft_large`` or ``raft_small``.
    device
        Where it computes.

    Raises
    ------
    CheckpointError
        If the file is of neither.
    """

    STRIDE = 8
    LEAST = 128
    """Least side of a picture that RAFT's pyramid takes."""

    def __init__(self, weights: str | Path, device: torch.device | str = "cpu") -> None:
        from torchvision.models.optical_flow import raft_large, raft_small

        tensors = read_tensors(Path(weights))
        for build in (raft_large, raft_small):
            network = build(weights=None, progress=False)
            if {name: part.shape for name, part in network.state_dict().items()} == {
                name: part.shape for name, part in tensors.items()
            }:
                network.load_state_dict(tensors)
                self._network = network.eval().requires_grad_(False).to(device)
                self._device = torch.device(device)
                return
        raise CheckpointError(
            f"{weights} is no file of torchvision's raft_large or raft_small; save the state_dict() of one"
        )

    def begin(self, view: View, frame: int, points: Points) -> FlowState:
        """The points, all seen."""
        return FlowState(points.copy(), np.ones(len(points), bool), frame)

    def step(self, view: View, state: FlowState, frame: int) -> tuple[Points, Visible]:
        """Points moved by the flow from the last frame to this one."""
        one, other = (self._picture(view, number) for number in (state.frame, frame))
        with torch.inference_mode():
            there = self._network(one, other)[-1]
            back = self._network(other, one)[-1]
        moved = sample_flow(there, state.points)
        found = state.points + moved
        returned = sample_flow(back, found)
        limit = 0.01 * ((moved**2).sum(axis=1) + (returned**2).sum(axis=1)) + 0.5
        state.seen = (
            state.seen & (((moved + returned) ** 2).sum(axis=1) <= limit) & is_inside(found, view.shape)
        )
        state.points, state.frame = found, frame
        return found.copy(), state.seen.copy()

    def _picture(self, view: View, frame: int) -> Tensor:
        """``(1, 3, h, w)`` from -1 to 1, padded to what RAFT divides."""
        rows, cols = view.shape
        height, width = (max(self.LEAST, -(-side // self.STRIDE) * self.STRIDE) for side in (rows, cols))
        image = torch.from_numpy(view.image(Window(0, 0, rows, cols, frame)))[None].to(self._device)
        return F.pad(image * 2 - 1, (0, width - cols, 0, height - rows), mode="replicate")


def sample_flow(flow: Tensor, points: Points) -> Points:
    """Flow ``(P, 2)`` in pixels, of a field ``(1, 2, h, w)``, at points."""
    size = np.array([flow.shape[-1], flow.shape[-2]])
    grid = torch.from_numpy(points / size * 2 - 1).to(flow)[None, :, None]
    taken = F.grid_sample(flow, grid, padding_mode="border", align_corners=False)
    return np.asarray(taken[0, :, :, 0].T.double().cpu().numpy())


def is_inside(points: Points, shape: tuple[int, int]) -> Visible:
    """Which points lie farther than a hundredth of a side from every edge."""
    size = np.array([shape[1], shape[0]], float)
    return np.asarray(((points >= size * BORDER) & (points <= size * (1 - BORDER))).all(axis=1))
