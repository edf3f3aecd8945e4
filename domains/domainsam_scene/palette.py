"""A colour for every class."""

from __future__ import annotations

import colorsys

Colour = tuple[int, int, int]

UNKNOWN: Colour = (0, 0, 0)
"""Pixels that no sensor saw, or that nobody judges."""
GOLDEN = 0.618033988749895
"""Steps of the golden ratio spread hues evenly, however many there are."""


def class_colours(labels: tuple[str, ...]) -> tuple[Colour, ...]:
    """The published colours of a known list of classes, else distinct hues in a fixed order."""
    from domainsam_scene.generated import CLASSES, COLOURS
    from domainsam_scene.readers import published_colours

    known = {CLASSES: COLOURS, **published_colours()}
    return known.get(labels) or tuple(_hue(index) for index in range(len(labels)))


def _hue(index: int) -> Colour:
    lightness, saturation = ((0.5, 0.65), (0.68, 0.6), (0.36, 0.7))[index // 3 % 3]
    channels = colorsys.hls_to_rgb((0.58 + index * GOLDEN) % 1, lightness, saturation)
    red, green, blue = (round(255 * channel) for channel in channels)
    return red, green, blue
