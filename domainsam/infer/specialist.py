"""A trained specialist as a prompt source: it sweeps every frame, and its objects become prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.grid import Grid
from domainsam.infer.blend import NODATA, find_threshold_level
from domainsam.infer.components import EIGHT, Component, StoredScene, find_components
from domainsam.infer.engine import sweep_scene
from domainsam.infer.fill import make_filled_reader
from domainsam.infer.networks import Networks, ScenePrompter
from domainsam.infer.options import EngineOptions
from domainsam.infer.sweep import FirstLook
from domainsam.infer.tiling import Lattice, TileGrid
from domainsam.protocols import Block, SceneObject, View, Window

FIELD = 1024
"""Cuts objects into pieces while they are searched; it does not change what is found."""


@dataclass(frozen=True)
class ViewSource:
    """A view as a :class:`~domainsam.protocols.Source`; its grid counts frames, rows and columns."""

    view: View

    @property
    def grid(self) -> Grid:
        """Pixels of all frames, without a place in the world."""
        return Grid((self.view.frames, *self.view.shape), np.eye(4), "pixel")

    def read(self, window: Window) -> Block:
        """One block; parts outside the view are invalid."""
        return self.view.block(window)

    def blocks(self, size: int, overlap: int) -> Iterator[Block]:
        """Blocks of side ``size`` that cover each frame in turn."""
        for frame in range(self.view.frames):
            for window in TileGrid.cover(self.view.shape, size, overlap).windows():
                yield self.read(replace(window, frame=frame))


class SpecialistSource:
    """Objects that a specialist finds by itself, as a :class:`~domainsam.protocols.PromptSource`.

    Each object is a connected area of the blended probability, as in
    :func:`domainsam.infer.engine.map_scene`, with its box, its outline as a
    rough mask, and its mean probability as score. A temporary file holds a byte
    a pixel; memory follows tiles, and the masks that are asked for.

    Parameters
    ----------
    prompter
        The specialist, in evaluation mode: a
        :class:`~domainsam.prompter.segformer.SegFormerPrompter` or another.
    options
        Tiles, overlap, proposal, ``min_pixels`` and precision; those of the
        foundation are not looked at.
    label
        What its objects are called.
    device
        Where it computes; by default where its tensors are.
    """

    def __init__(
        self,
        prompter: ScenePrompter,
        options: EngineOptions | None = None,
        label: str | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.prompter, self.label = prompter, label
        self.options = options or EngineOptions()
        self.device = _device_of(prompter) if device is None else torch.device(device)

    def find(self, view: View) -> Iterator[SceneObject]:
        """The objects of every frame, in the order of their first pixels.

        Raises
        ------
        InputError
            If the scene cannot be read.
        OutputError
            If the system's folder for temporary files has no room for a byte a pixel.
        """
        options, source = self.options, ViewSource(view)
        networks = Networks(None, self.device, options.dtype)
        level = find_threshold_level(options.proposal)
        with TemporaryDirectory(prefix="domainsam-") as folder:
            swept = sweep_scene(
                source,
                make_filled_reader(source, mirrored=True),
                FirstLook(self.prompter, networks, views=options.views),
                Path(folder),
                TileGrid.cover(view.shape, options.tile, options.overlap, options.offset),
                identity={},
                batch_size=options.batch_size,
                workers=options.workers,
                strip_width=options.strip_width,
                margin=options.margin,
            )
            with swept.open(FirstLook.outputs[0]) as stored:
                for number in range(view.frames):
                    frame = stored.frame(number)
                    found = find_components(
                        frame, level, Lattice.cover(view.shape, FIELD), options.min_pixels
                    )
                    for component in found.items:
                        yield self._object(component, frame, level, number)

    def _object(self, component: Component, frame: StoredScene, level: int, number: int) -> SceneObject:
        bounds = component.bounds
        box = (bounds.col, bounds.row, bounds.col + bounds.width, bounds.row + bounds.height)
        return SceneObject(
            replace(bounds, frame=number),
            self.label,
            min(1.0, component.mean_probability),
            box=tuple(map(float, box)),  # type: ignore[arg-type]
            mask=cut_mask(component, frame, level),
        )


def cut_mask(component: Component, frame: StoredScene, level: int) -> NDArray[np.bool_]:
    """The pixels of a component within its bounds, ``(h, w)`` bool.

    All of its pixels lie there, so that what is connected there is the component.
    """
    values = frame.read(component.bounds)
    labels, _ = ndimage.label((values >= level) & (values != NODATA), structure=EIGHT)
    row, col = component.first
    mask: NDArray[np.bool_] = labels == labels[row - component.bounds.row, col - component.bounds.col]
    return mask


def _device_of(prompter: Any) -> torch.device:
    """Where a module's tensors are; the CPU for what has none."""
    tensors = [*prompter.parameters(), *prompter.buffers()] if isinstance(prompter, torch.nn.Module) else []
    return tensors[0].device if tensors else torch.device("cpu")
