"""Layouts: how folders of multi-sensor scenes are arranged, and how to read them."""

from __future__ import annotations

from domainsam.errors import ConfigError
from domainsam_scene.readers.base import Layout

LAYOUTS = ("plain",)
"""What ``--layout`` knows."""


def find_layout(name: str) -> Layout:
    """The layout of that name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    from domainsam_scene.readers.plain import PlainLayout

    if name == "plain":
        return PlainLayout()
    raise ConfigError(f"--layout {name!r} is unknown; there are: {', '.join(LAYOUTS)}")


def published_colours() -> dict[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """Colours of the classes that data sets publish, by the list of classes."""
    layouts = [find_layout(name) for name in LAYOUTS]
    return {layout.labels: layout.colours for layout in layouts if layout.labels}
