"""Many inputs of one job, as values that any process or machine can take up.

A pack says which inputs there are (:class:`Entry`), what each of them will
write and how one is done (:class:`WorkList`). Who does them, one after another
in this process, workers of a cluster, or tasks of a batch system, is decided
elsewhere: see :mod:`domainsam.infer.executor` and :mod:`domainsam.cluster`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from domainsam.infer.outputs import OutputPlan

Plan = TypeVar("Plan", bound=OutputPlan)
Result = TypeVar("Result")
Finish = Callable[[Sequence[tuple[str, str]]], Mapping[str, Path]]
"""Writes the files about all inputs; see :class:`WorkList`."""


@dataclass(frozen=True)
class Entry:
    """One input of a job.

    Parameters
    ----------
    source
        A path, or an address that the user or a catalogue of theirs names.
    name
        What it is called in file names and messages; None for what its path says.
    when
        ISO 8601 date or time, as a catalogue states it.
    box
        West, south, east, north in degrees (WGS 84), as a catalogue states it.
    """

    source: str
    name: str | None = None
    when: str | None = None
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Size:
    """What doing an input takes.

    Parameters
    ----------
    elements
        Pixels, or voxels, that the network sees.
    read, written, staged
        Bytes of the input, of its outputs at most, and of what lies on the disk while it is worked on.
    """

    elements: int
    read: int
    written: int
    staged: int


@dataclass(frozen=True)
class WorkList(Generic[Plan, Result]):
    """What a job does with many inputs.

    Parameters
    ----------
    plans
        The files of each input.
    name
        What an input is called in messages.
    prepare
        Loads the model and returns the function for one input. It can be pickled, so that workers load
        their own.
    resume
        Whether inputs are passed over whose files are all there.
    overwrite
        Whether files of an input may be replaced.
    finish
        Writes the files about all inputs, given names and reasons of those that failed; returns them by kind.
    """

    plans: tuple[Plan, ...]
    name: Callable[[Plan], str]
    prepare: Callable[[], Callable[[Plan], Result]]
    resume: bool
    overwrite: Callable[[Plan], bool]
    finish: Finish


@dataclass(frozen=True)
class ManyJob:
    """A pack's main job as what can be spread.

    Parameters
    ----------
    command
        Its name in the pack's group of commands.
    list_entries
        Inputs as the user gave them, and the command's options by keyword, to single ones, all of them named,
        and the options with what follows for them from the kind of inputs.
    open
        Entries and options to what is done with them. Its third argument is how many inputs there are in
        all, of which these may be some.
    measure
        An entry and options to its size.
    tells_command
        Whether its options take ``made_by``, the command as outputs tell it.
    """

    command: str
    list_entries: Callable[[Sequence[str], Mapping[str, Any]], tuple[tuple[Entry, ...], dict[str, Any]]]
    open: Callable[[Sequence[Entry], Mapping[str, Any], int], WorkList[Any, Any]]
    measure: Callable[[Entry, Mapping[str, Any]], Size]
    tells_command: bool = False
