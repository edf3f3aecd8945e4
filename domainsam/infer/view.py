"""A scene as prompt sources look at it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.grid import Grid
from domainsam.infer.fill import make_filled_reader
from domainsam.infer.networks import Networks
from domainsam.protocols import Block, Features, Foundation, Source, Window

KEPT = 8
"""Windows whose features are kept: those of SAM take 4 MB each."""


class _LastRead:
    """A source that knows the block that was read last: who looks at a window often encodes it next."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._last: tuple[Window, Block] | None = None

    @property
    def grid(self) -> Grid:
        return self._source.grid

    def read(self, window: Window) -> Block:
        if self._last is None or self._last[0] != window:
            self._last = window, self._source.read(window)
        return self._last[1]

    def blocks(self, size: int, overlap: int) -> Iterator[Block]:
        return self._source.blocks(size, overlap)


class PixelView:
    """A scene for those who look at its pixels with a network of their own: a ``View`` without features.

    Parameters
    ----------
    source
        The scene; blocks of 3-channel images in 0 to 1.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def grid(self) -> Grid:
        """Where its elements lie in the world."""
        return self._source.grid

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return self.grid.frame_shape

    @property
    def frames(self) -> int:
        """Number of frames; 1 for a raster."""
        return self.grid.frames

    def block(self, window: Window) -> Block:
        """Picture of ``window``, and where it holds data."""
        return self._source.read(window)

    def image(self, window: Window) -> NDArray[np.float32]:
        """RGB picture ``(3, h, w)`` float32 in 0 to 1; 0 outside the scene and where there is no data."""
        return self.block(window).image

    def features(self, window: Window) -> Features:
        """Refuse: there is no foundation here.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError("this view has no foundation, so it has no features; look at its pixels")


class SceneView(PixelView):
    """Pictures of a source, and features that are encoded once: a :class:`domainsam.protocols.View`.

    Parameters
    ----------
    source
        The scene; blocks of 3-channel images in 0 to 1.
    networks, foundation
        Who encodes, and in which precision.
    """

    def __init__(self, source: Source, networks: Networks, foundation: Foundation) -> None:
        super().__init__(_LastRead(source))
        self._read = make_filled_reader(self._source)
        self._networks, self.foundation = networks, foundation
        self._features: dict[Window, Features] = {}

    def features(self, window: Window) -> Features:
        """Features (``B = 1``) of the picture of ``window``, whose sides are multiples of 32."""
        if window not in self._features:
            with self._networks.running():
                images = self._networks.images([self._read(window)])
                features = self.foundation.encode(images)
            while len(self._features) >= KEPT:
                self._features.pop(next(iter(self._features)))
            self._features[window] = features
        return self._features[window]
