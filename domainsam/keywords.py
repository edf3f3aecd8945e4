"""Keywords of a pack's main job: names checked, values brought into the form that settings hold.

A pack's function that makes settings from keywords serves Python and the
command line alike, so that an option has one name and one meaning.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from domainsam.errors import ConfigError

Part = TypeVar("Part")

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
"""What ``precision`` may be; :data:`domainsam.machine.PRECISIONS` says what the last three mean."""
RUNTIMES = ("torch", "onnx", "openvino")
"""What ``runtime`` may be: who computes a foundation."""


def keyword_names(*functions: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the keyword-only parameters of functions, in their order."""
    parameters = (item for function in functions for item in inspect.signature(function).parameters.values())
    return tuple(dict.fromkeys(item.name for item in parameters if item.kind is item.KEYWORD_ONLY))


def check_keywords(job: str, given: Iterable[str], known: Collection[str]) -> None:
    """Refuse keywords that a job does not know.

    Parameters
    ----------
    job
        The job's name, for the message.

    Raises
    ------
    ConfigError
        If one is unknown; the message names the nearest that is known.
    """
    for name in given:
        if name in known:
            continue
        near = get_close_matches(name, known, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else "these are known"
        listed = "" if near else f": {', '.join(known)}"
        raise ConfigError(f"{job}: no option is named {name!r}; {hint}{listed}")


def list_words(words: str | Iterable[str]) -> tuple[str, ...]:
    """One phrase, or several; a comma within one parts nothing."""
    return (words,) if isinstance(words, str) else tuple(words)


def path_of(value: str | Path | None) -> Path | None:
    """A path, None where there is none."""
    return None if value is None else Path(value)


def parts_of(value: str | Iterable[Any], kind: Callable[[Any], Part]) -> tuple[Part, ...]:
    """A text with commas, or a sequence, as a tuple of ``kind``.

    Raises
    ------
    ConfigError
        If a part is not of that kind.
    """
    parts = value.split(",") if isinstance(value, str) else value
    try:
        return tuple(kind(part.strip() if isinstance(part, str) else part) for part in parts)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{value!r} is not a list of {kind.__name__} values") from error


def check_choice(name: str, value: str, choices: Iterable[str]) -> str:
    """The value, if it is one of the choices.

    Raises
    ------
    ConfigError
        If it is not.
    """
    choices = tuple(choices)
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}, expected one of: {', '.join(choices)}")
    return value


def check_least(least: float, **values: float | None) -> None:
    """Refuse numbers below ``least``; None passes.

    Raises
    ------
    ConfigError
        If one of them is smaller, or no number.
    """
    for name, value in values.items():
        if value is not None and not value >= least:
            raise ConfigError(f"{name} is {value}, expected {least:g} or more")


def refuse_with_marks(**given: object) -> None:
    """Refuse options that say something of a trained model, where a person marks the objects.

    Raises
    ------
    ConfigError
        If one is given; the message names it.
    """
    for name, value in given.items():
        if value:
            option = name.replace("_", "-")
            raise ConfigError(
                f"--{option} is of no use beside --points or --boxes, which take no model: leave one out"
            )
