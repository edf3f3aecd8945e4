"""Show a network ground where a picture has none: the scene's mean colour, or a mirror image; never black."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.protocols import Block, Source, Window

WHOLE = 1024 * 1024
"""Pixels of a scene whose colour is that of all of them, so that a frame of nodata does not change it."""
PLACES = 6
"""Along each side of a larger scene: where its colour is looked at."""
LEAST_SEEN = 0.3
"""Share of a picture that has to be seen, or most of what a network sees would be a plain."""
SPECK = 4.0
"""Pixels from their rim to the middle of holes that are closed in its colours."""
SAMPLE = 32
"""Side in pixels of what is looked at there."""

Colour = NDArray[np.float32]
"""Of every channel, ``(C,)``."""


def fill_missing(image: NDArray[np.float32], seen: NDArray[np.bool_], colour: Colour) -> NDArray[np.float32]:
    """The picture with missing pixels in one colour, and specks of them in that of the nearest pixel seen.

    A picture that is mostly missing shows its mirror image, so that a network sees a place and no plain.

    Parameters
    ----------
    image
        ``(C, h, w)``.
    seen
        ``(h, w)``, true where the picture shows anything; somewhere it does.

    Returns
    -------
    ``(C, h, w)`` float32; the picture itself where all of it is seen.
    """
    if seen.all():
        return image
    if seen.mean() < LEAST_SEEN:
        return mirror_missing(image, seen, lambda: colour)
    filled = np.where(seen, image, colour[:, None, None]).astype(np.float32, copy=False)
    distance, nearest = ndimage.distance_transform_edt(~seen, return_indices=True)
    core = distance > SPECK
    # Wider ground has its own colour up to its rim: a rim's colours drawn out are lines to a network.
    wide = ndimage.distance_transform_edt(~core) <= SPECK + 1 if core.any() else core
    speck = ~seen & ~wide
    rows, cols = nearest[0][speck], nearest[1][speck]
    filled[:, speck] = image[:, rows, cols]
    return filled


def mirror_missing(
    image: NDArray[np.float32], seen: NDArray[np.bool_], find_colour: Callable[[], Colour]
) -> NDArray[np.float32]:
    """The picture with mirror images at the nearest pixel seen where it is missing; as :func:`fill_missing`.

    Parameters
    ----------
    find_colour
        Gives the colour of what no mirror image reaches; asked only if there is any.
    """
    nearest = ndimage.distance_transform_edt(~seen, return_distances=False, return_indices=True)
    missing = np.nonzero(~seen)
    mirrored = [2 * near[missing] - place for near, place in zip(nearest, missing, strict=True)]
    reached = np.ones(len(missing[0]), dtype=bool)
    for place, length in zip(mirrored, seen.shape, strict=True):
        reached &= (place >= 0) & (place < length)
        np.clip(place, 0, length - 1, out=place)
    reached &= seen[mirrored[0], mirrored[1]]
    filled = np.array(image, dtype=np.float32)
    values = filled[:, mirrored[0], mirrored[1]]
    if not reached.all():
        values = np.where(reached, values, find_colour()[:, None])
    filled[:, missing[0], missing[1]] = values
    return filled


def measure_colour(source: Source, frame: int = 0) -> Colour | None:
    """Mean colour of what is seen of a frame, of a large one at places spread over it; None of nothing."""
    height, width = source.grid.frame_shape
    total, count = None, 0
    for row, col, rows, cols in _choose_places(height, width):
        block = source.read(Window(row, col, rows, cols, frame))
        seen = _find_seen(block)
        part = block.image[:, seen].sum(axis=1, dtype=np.float64)
        total, count = part if total is None else total + part, count + int(seen.sum())
    return None if total is None or not count else (total / count).astype(np.float32)


def _choose_places(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Where a frame's colour is looked at: row, column, height and width of every place."""
    if height * width <= WHOLE:
        return [(0, 0, height, width)]
    rows, cols = (np.linspace(0, max(0, side - SAMPLE), PLACES).astype(int) for side in (height, width))
    return [(int(row), int(col), min(SAMPLE, height), min(SAMPLE, width)) for row in rows for col in cols]


def make_filled_reader(source: Source, mirrored: bool = False) -> Callable[[Window], Block]:
    """Reads blocks that show something else than black where there is no data or the scene ends.

    Networks have learnt no black ground, and answer for it as far as their
    context reaches. A plain colour of the place holds nothing that could be
    taken for an object, and one colour of the whole scene does not depend on
    how it is cut into tiles; so prompted networks are shown it. Networks that
    sweep a scene and say what kind of ground it is are shown its mirror image:
    they answer as steadily with it beside what is missing, and more rightly
    (``benchmarks/README.md``). Such pixels stay invalid: they are never an
    answer's place.

    Parameters
    ----------
    mirrored
        Fill by :func:`mirror_missing` and not by :func:`fill_missing`.
    """
    known: dict[int, Colour | None] = {}
    lock = Lock()

    def find_colour(frame: int) -> Colour | None:
        # Blocks are read by several threads.
        with lock:
            if frame not in known:
                known[frame] = measure_colour(source, frame)
            return known[frame]

    def read(window: Window) -> Block:
        block = source.read(window)
        seen = _find_seen(block)
        if seen.all() or not seen.any():
            return block

        def choose_colour() -> Colour:
            colour = find_colour(window.frame)
            own: Colour = block.image[:, seen].mean(axis=1) if colour is None else colour
            return own

        if mirrored:
            return replace(block, image=mirror_missing(block.image, seen, choose_colour))
        return replace(block, image=fill_missing(block.image, seen, choose_colour()))

    return read


def _find_seen(block: Block) -> NDArray[np.bool_]:
    return block.valid if block.seen is None else block.seen
