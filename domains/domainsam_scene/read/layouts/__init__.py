"""Layouts of multi-sensor data sets: DELIVER, MCubeS, MUSES, and plain folders."""

from __future__ import annotations

from collections.abc import Callable

from domainsam.errors import ConfigError
from domainsam_scene.read.layouts.base import Layout
from domainsam_scene.read.layouts.deliver import DeliverLayout
from domainsam_scene.read.layouts.mcubes import McubesLayout
from domainsam_scene.read.layouts.muses import MusesLayout
from domainsam_scene.read.layouts.plain import PlainLayout

LAYOUTS: dict[str, Callable[[], Layout]] = {
    "plain": PlainLayout,
    "deliver": DeliverLayout,
    "mcubes": McubesLayout,
    "muses": MusesLayout,
}
"""What ``--layout`` knows."""


def find_layout(name: str) -> Layout:
    """The layout of that name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name not in LAYOUTS:
        raise ConfigError(f"--layout {name!r} is unknown; there are: {', '.join(LAYOUTS)}")
    return LAYOUTS[name]()


def find_published_colours() -> dict[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """Colours of the classes that data sets publish, by the list of classes."""
    layouts = [make() for make in LAYOUTS.values()]
    return {layout.labels: layout.colours for layout in layouts if layout.labels}
