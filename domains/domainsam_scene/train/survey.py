"""Look at labelled scenes before they are learnt from: what is missing, unreadable or makes no sense."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam_scene.read.layouts.base import IGNORE, SampleRef, check_present, has_sensor
from domainsam_scene.train.scenes import LayoutScenes, spread_numbers

log = logging.getLogger(__name__)

LOOKED = 24
"""Scenes whose sensors are read."""
COUNTED = 400
"""Scenes whose labels are counted."""
NAMED = 3
"""Scenes that a note names."""


def survey_scenes(scenes: LayoutScenes, root: Path, asked: Sequence[str]) -> tuple[str, ...]:
    """What a person ought to know of scenes before a model learns from them, also logged.

    Parameters
    ----------
    scenes
        To be learnt from.
    root
        Their folder.
    asked
        Sensors that were named by options; the others are what the folder has.

    Raises
    ------
    InputError
        If a sensor that was asked for is in no scene or cannot be read in any, no scene has two of
        several sensors, or fewer than two classes occur.
    """
    check_present(scenes.refs, asked, root, "--modality")
    notes = [*_unpaired(scenes, root), *_unreadable(scenes), *_labels(scenes, root)]
    for note in notes:
        log.warning("%s", note)
    return tuple(notes)


def _unpaired(scenes: LayoutScenes, root: Path) -> list[str]:
    """Sensors that no or not every scene has, and scenes without labels."""
    notes = []
    lost = [] if scenes.chosen else [n for n in scenes.layout.modalities if n not in scenes.modalities]
    absent = [name for name in lost if not any(has_sensor(ref, name) for ref in scenes.refs)]
    unmatched = [name for name in absent if any(has_sensor(ref, name) for ref in scenes.found)]
    if unmatched:
        shown = "; ".join(
            f"{name}: {_first_name(scenes.found, name)}" for name in (*scenes.modalities, *unmatched)
        )
        raise InputError(
            f"{root}: no file of {', '.join(unmatched)} has the name of a labelled sample ({shown}); give "
            "files of one scene one name in every sensor's folder, or say what to learn from (--modality)"
        )
    if absent:
        notes.append(f"no sample has {', '.join(absent)}: the model will not know {_them(absent)}")
    if scenes.unlabelled:
        notes.append(f"{_samples(scenes.unlabelled)} without labels left out")
    stray = getattr(scenes.layout, "stray_labels", ())
    if stray:
        notes.append(f"labels of {_some(stray)} belong to no sensor's file of that name, and are left out")
    sensors = scenes.modalities
    if len(sensors) < 2:
        return notes
    if not any(sum(has_sensor(ref, name) for name in sensors) > 1 for ref in scenes.refs):
        shown = "; ".join(f"{name}: {_first_name(scenes.refs, name)}" for name in sensors)
        raise InputError(
            f"{root}: no sample has more than one sensor ({shown}); give files of one scene one name "
            "in every sensor's folder, or learn from one sensor (--modality)"
        )
    for name in sensors:
        without = [ref.name for ref in scenes.refs if not has_sensor(ref, name)]
        if without:
            notes.append(
                f"{name} is missing in {len(without)} of {_samples(len(scenes.refs))} ({_some(without)}): "
                "they are learnt from without it"
            )
    return notes


def _unreadable(scenes: LayoutScenes) -> list[str]:
    """Sensors whose files cannot be read or have an odd scale, in the scenes that are looked at."""
    looked = spread_numbers(len(scenes), LOOKED)
    faults: dict[str, list[str]] = {}
    odd: Counter[str] = Counter()
    for number in looked:
        sample, _ = scenes.read(number)
        for name, why in sample.missing.items():
            if has_sensor(scenes.refs[number], name):
                faults.setdefault(name, []).append(why)
        odd.update(note for note in sample.notes if "--range" in note)
    notes = []
    for name, reasons in faults.items():
        there = sum(has_sensor(scenes.refs[number], name) for number in looked)
        if len(reasons) == there:
            raise InputError(f"{name} cannot be read in any of the {_samples(there)} looked at: {reasons[0]}")
        notes.append(f"{name} cannot be read in {len(reasons)} of {_samples(there)} looked at: {reasons[0]}")
    return [*notes, *(f"{note} (in {count} of {len(looked)} samples)" for note, count in odd.items())]


def _labels(scenes: LayoutScenes, root: Path) -> list[str]:
    """Classes that do not occur; an error where fewer than two do."""
    numbers = spread_numbers(len(scenes), COUNTED)
    counts = np.zeros(256, np.int64)
    for number in numbers:
        counts += np.bincount(scenes.layout.read_labels(scenes.refs[number]).ravel(), minlength=256)
    return check_classes(counts, scenes.labels, root)


def check_classes(counts: NDArray[np.int64], labels: Sequence[str], origin: Path) -> list[str]:
    """Notes on classes that never occur, from pixels by label ``(256,)``.

    Raises
    ------
    InputError
        If fewer than two classes occur: there is nothing to tell apart.
    """
    found = np.flatnonzero(counts[: len(labels)])
    if len(found) < 2:
        if counts[IGNORE] and set(found.tolist()) <= {0}:
            raise InputError(
                f"{origin}: the labels hold 0 and {IGNORE} only, and {IGNORE} means unknown, so that what is "
                f"drawn as {IGNORE} would be ignored; write 0 for {labels[0]} and 1 for {labels[1]}"
            )
        only = ", ".join(labels[number] for number in found.tolist()) or "no class at all"
        raise InputError(
            f"{origin}: {only} occurs in the labels, expected two of {', '.join(labels)} at least; "
            "are they numbered from 0 in the order of the class names?"
        )
    never = [label for label, count in zip(labels, counts, strict=False) if not count]
    return [f"in the labels looked at there is no {', '.join(never)}"] if never else []


def _first_name(refs: Sequence[SampleRef], name: str) -> str:
    return next((ref.files[name][0].name for ref in refs if has_sensor(ref, name)), "none")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _samples(count: int) -> str:
    return f"{count} sample{'' if count == 1 else 's'}"


def _them(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"
