"""Options of ``domainsam scene segment`` as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from domainsam.marks import MarkFiles

Range = tuple[float, float]
SENSORS = ("rgb", "depth", "event", "lidar", "nir", "thermal", "radar", "aolp", "dolp")
"""Sensors that have an option of their own; ``--modality NAME=FILE`` gives any other."""


@dataclass(frozen=True)
class RunOptions:
    """How the network is run; ``tile`` and ``overlap`` are in pixels of the first raster of a stack."""

    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    overlap: int | None = None
    runtime: str = "torch"


@dataclass(frozen=True)
class OutputOptions:
    """Where results go; every path may be a folder or hold ``{stem}``."""

    map: Path
    probability: Path | None = None
    confidence: Path | None = None
    contribution: Path | None = None
    preview: Path | None = None
    summary: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class ReadOptions:
    """How samples are read.

    Parameters
    ----------
    ranges
        By sensor, the values in the file that become 0 and 1.
    align
        Undo shifts between sensors where they are beyond doubt.
    strict
        Refuse a sample that lacks a sensor instead of going on with the others.
    """

    ranges: Mapping[str, Range] = field(default_factory=dict)
    align: bool = False
    strict: bool = False
    dilate: int | None = None
    """Side in pixels of the square that each event of MUSES is drawn as; its one pixel by default."""
    bands: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By sensor, up to three bands of georeferenced rasters, counted from 1; the first three by default."""
    notes: tuple[str, ...] = ()
    """What is to be told of how all samples are read."""


@dataclass(frozen=True)
class Reading:
    """How the material was read that a model learnt from; its answers depend on it, so its file holds it.

    Parameters
    ----------
    ranges, bands, dilate
        As in :class:`ReadOptions`.
    rasters
        Whether it learnt from georeferenced rasters, which are stretched between percentiles.
    known
        False for files of versions that did not write it down.
    """

    ranges: Mapping[str, Range] = field(default_factory=dict)
    bands: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dilate: int | None = None
    rasters: bool = False
    known: bool = False


@dataclass(frozen=True)
class SegmentOptions:
    """One call of ``domainsam scene segment``, without its inputs."""

    outputs: OutputOptions
    model: Path | None = None
    foundation: str | None = None
    modalities: tuple[str, ...] = ()
    read: ReadOptions = field(default_factory=ReadOptions)
    run: RunOptions = field(default_factory=RunOptions)
    resume: bool = False
    quiet: bool = False
    marks: MarkFiles = field(default_factory=MarkFiles)
    """Where objects are, if a person says it instead of the model."""
    made_by: str = "domainsam"
    """What rasters say they were made by: the command, or this."""
