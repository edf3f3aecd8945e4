"""One CT from opening to measured mask: what every output is made from."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from domainsam.errors import ConfigError
from domainsam.grid import Grid
from domainsam.infer.workroom import WorkRoom, require_space
from domainsam_cli.progress import StageProgress
from domainsam_ct.inference import STAGED_BYTES, segment_volume
from domainsam_ct.labels import LabelMap, choose, label_map_of, load_label_map
from domainsam_ct.model import OrganModel
from domainsam_ct.postprocess import Cleaned, CleanUp, clean_up
from domainsam_ct.segment_options import EVERY, NOBODY, CleanOptions, SegmentOptions
from domainsam_ct.staged import CHUNK, StagedVolume
from domainsam_ct.statistics import OrganStatistics, Tally
from domainsam_ct.volume import Volume

MASK_BYTES = 1
"""Bytes a voxel that a mask may take before it is compressed."""
CLEAN_FILE = "clean.raw"
CLEAN_BYTES = 1
"""Bytes a voxel of the cleaned mask. It is a copy: a run that is killed in its middle cleans anew."""


@dataclass(frozen=True, eq=False)
class Segmented:
    """A segmented, cleaned and measured CT; its mask is still staged.

    ``labels`` are the values of the mask; ``tally`` knows where organs lie.
    """

    volume: Volume
    mask: StagedVolume
    labels: LabelMap
    tally: Tally
    organs: tuple[OrganStatistics, ...]
    cleaned: Cleaned
    resumed: bool


def output_labels(names: tuple[str, ...], options: SegmentOptions) -> tuple[LabelMap, dict[int, int]]:
    """Values of the mask, and the value for each of the model's labels.

    Parameters
    ----------
    names
        The model's labels, background first.

    Raises
    ------
    ConfigError
        If an organ is unknown to the model or to the label map, or a value does not fit a byte.
    """
    own = label_map_of(names)
    wanted = own if options.organs is None else choose(own, options.organs)
    if options.label_map is None:
        return wanted, {value: value for value in wanted}
    theirs = load_label_map(options.label_map)
    numbers = {organ.name: value for value, organ in theirs.items()}
    values = {}
    for value, organ in wanted.items():
        if organ.name not in numbers:
            raise ConfigError(
                f"label map '{options.label_map}' has no {organ.name}: add it, or leave it out with --organs"
            )
        if numbers[organ.name] > 255:
            raise ConfigError(f"{organ.name} = {numbers[organ.name]}: masks hold values up to 255")
        values[value] = numbers[organ.name]
    labels = {numbers[organ.name]: theirs[numbers[organ.name]] for organ in wanted.values()}
    return dict(sorted(labels.items())), values


def segment(
    volume: Volume,
    model: OrganModel,
    options: SegmentOptions,
    room: WorkRoom,
    source: Path,
    progress: StageProgress,
) -> Segmented:
    """Segment, clean and measure an opened CT.

    Raises
    ------
    DomainSamError
        If the disk is too small, or another run's work is to be gone on with.
    """
    labels, values = output_labels(model.labels, options)
    voxels = volume.shape[0] * volume.shape[1] * volume.shape[2]
    require_space(
        room.folder,
        voxels * (STAGED_BYTES + CLEAN_BYTES + MASK_BYTES),
        f"a volume of {size_text(volume.shape)} voxels",
    )
    fingerprint = {**source_identity(source), **model_identity(model), "values": sorted(values.items())}
    found, confidence, resumed = segment_volume(
        volume, model, values, room.folder, fingerprint, options.resume, options.run.workers, progress
    )
    with closing(found), closing(confidence):
        mask = found.copied(room.folder / CLEAN_FILE)
        cleaned = clean_up(mask, cleaning(options.clean, labels), volume.spacing, confidence)
        tally = measure(volume, mask, found, confidence, labels)
    organs = tally.statistics(native_grid(volume))
    return Segmented(volume, mask, labels, tally, organs, cleaned, resumed)


def measure(
    volume: Volume, mask: StagedVolume, found: StagedVolume, confidence: StagedVolume, labels: LabelMap
) -> Tally:
    """Gather everything there is to say about the organs in one pass.

    ``confidence`` belongs to ``found``, the mask before clean-up: of cavities
    that were filled since, nothing is known.
    """
    tally = Tally(volume.grid, labels)
    for start, chunk in mask.chunks(CHUNK):
        if chunk.any():
            stop = start + len(chunk)
            hu = volume.slices(start, stop).transpose(2, 0, 1)
            certain = np.where(found.read(start, stop) == chunk, confidence.read(start, stop), 0)
            tally.add(start, chunk, hu, certain.astype(np.uint8))
    return tally


def cleaning(options: CleanOptions, labels: LabelMap) -> CleanUp:
    """Organs that are cleaned, by value.

    Raises
    ------
    ConfigError
        If a name is not among the organs.
    """

    def values(names: tuple[str, ...]) -> frozenset[int]:
        if EVERY in names:
            return frozenset(labels)
        return frozenset(choose(labels, [name for name in names if name != NOBODY]))

    return CleanUp(
        values(options.parts),
        values(options.holes),
        options.keep_share,
        options.keep_within_mm,
        options.keep_confidence,
    )


def native_grid(volume: Volume) -> Grid:
    """The grid of the file's own axes."""
    return Grid(volume.native.shape, volume.native.affine, "RAS")


def source_identity(source: Path) -> dict[str, Any]:
    """What tells one input from another without reading it all: name, size, time."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    facts = [path.stat() for path in files]
    return {
        "input": source.name,
        "bytes": sum(fact.st_size for fact in facts),
        "changed": max((fact.st_mtime_ns for fact in facts), default=0),
    }


def model_identity(model: OrganModel) -> Mapping[str, Any]:
    """What of a model decides the answer."""
    return {
        "model": model.name,
        "foundation": model.foundation_name,
        "window": list(model.window),
        "precision": str(model.dtype),
        "model labels": list(model.labels),
    }


def size_text(shape: tuple[int, ...]) -> str:
    """A size as people write it, ``512 x 512 x 120``."""
    return " x ".join(str(count) for count in shape)
