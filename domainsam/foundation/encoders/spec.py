"""What is known of an image encoder that stands in for SAM's: how it is built, fed and named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from domainsam.foundation.layers import EMBED_DIM, ChannelNorm
from domainsam.foundations import SAM_PIXELS, Normalisation


def keep_name(name: str) -> str:
    """The same name: for networks that call their tensors as the official file does."""
    return name


@dataclass(frozen=True)
class EncoderSpec:
    """One image encoder.

    Parameters
    ----------
    name
        The foundation's name in :data:`domainsam.foundations.FOUNDATIONS`.
    make
        Builds the network ``(B, 3, h, w)`` normalised images to ``(B, 256, h/16 * shrink, w/16 * shrink)``
        features, with random weights. It takes what a file's header says under ``encoder``.
    official_name
        Name of one of our tensors in the official file.
    unused
        Starts of names in the official file that nothing needs.
    pixels
        Mean and standard deviation of its input.
    shrink
        The encoder sees images smaller by this factor; features and prompts keep the frame of the image.
    multiple
        Sides of the image are padded to a multiple of this, after normalisation and with zeros,
        and the features are cut back, so that no level is shifted against another.
    channels_last
        Whether its convolutions are faster with channels as the last axis.
    image_size
        Side in pixels of the square images it was trained on, before they shrink.
    """

    name: str
    make: Callable[..., nn.Module]
    official_name: Callable[[str], str] = keep_name
    unused: tuple[str, ...] = ()
    pixels: Normalisation = SAM_PIXELS
    shrink: int = 1
    multiple: int = 32
    channels_last: bool = False
    image_size: int = 1024


def rename_starts(name: str, starts: Mapping[str, str]) -> str:
    """The name with the longest of the given starts exchanged; as it is where none fits."""
    fitting = [start for start in starts if name.startswith(start)]
    if not fitting:
        return name
    longest = max(fitting, key=len)
    return starts[longest] + name.removeprefix(longest)


def make_neck(channels: int) -> nn.Sequential:
    """SAM's neck from ``(B, channels, h, w)`` to ``(B, 256, h, w)`` (Kirillov et al. 2023, section A)."""
    return nn.Sequential(
        nn.Conv2d(channels, EMBED_DIM, 1, bias=False),
        ChannelNorm(EMBED_DIM),
        nn.Conv2d(EMBED_DIM, EMBED_DIM, 3, padding=1, bias=False),
        ChannelNorm(EMBED_DIM),
    )
