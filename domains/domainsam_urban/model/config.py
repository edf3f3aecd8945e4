"""Settings that a settlement model was trained with, read from its file."""

from __future__ import annotations

from dataclasses import dataclass, field

from domainsam.errors import ConfigError
from domainsam.foundation import COMPANION
from domainsam.infer.tiling import ALIGN
from domainsam.prompter.segformer import PrompterConfig
from domainsam_urban.settings import ShapeOptions

PACK = "urban"
"""The pack that a model file must have been trained for."""


@dataclass(frozen=True)
class SceneConfig:
    """How scenes are cut for the networks.

    Parameters
    ----------
    resolution
        Ground pixel in metres that the networks see; scenes are resampled to it.
    tile, overlap
        Side of a tile and least overlap of neighbours, in such pixels.
    least_tile
        Smaller tiles are not made, whatever a run asks for: the network answers by what it sees that far
        around. A run that asks for smaller ones has fewer of these at a time.

    Raises
    ------
    ConfigError
        If the resolution is not positive, the tile no multiple of 32, or the
        overlap not below the tile.
    """

    resolution: float = 0.9
    tile: int = 512
    overlap: int = 128
    least_tile: int = ALIGN

    def __post_init__(self) -> None:
        if not self.resolution > 0:
            raise ConfigError(f"resolution is {self.resolution}, expected metres above 0")
        if self.tile < ALIGN or self.tile % ALIGN:
            raise ConfigError(f"tile is {self.tile}, expected a multiple of {ALIGN}")
        if not ALIGN <= self.least_tile <= self.tile:
            raise ConfigError(f"least_tile is {self.least_tile}, expected {ALIGN} to tile ({self.tile})")
        if not 0 <= self.overlap < self.tile:
            raise ConfigError(f"overlap is {self.overlap}, expected 0 or more and below tile ({self.tile})")


@dataclass(frozen=True)
class UrbanConfig:
    """The tables of a settlement model's configuration.

    Parameters
    ----------
    foundation
        Name of the frozen generalist, a key of :data:`domainsam.foundations.FOUNDATIONS`.
    method
        What mapping takes unless told otherwise, one of :data:`domainsam_urban.settings.METHODS`.
    scene, shape, prompter
        How scenes are cut, how probability becomes polygons, and how the
        specialist is built; ``prompter.parts`` is the paper's ablation.
    """

    foundation: str = COMPANION
    method: str = "full"
    scene: SceneConfig = field(default_factory=SceneConfig)
    shape: ShapeOptions = field(default_factory=ShapeOptions)
    prompter: PrompterConfig = field(default_factory=PrompterConfig)
