"""The seam to a language model that sees: questions about pictures, texts and confidences in return."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError
from domainsam.prompter.language.answers import Said
from domainsam.prompter.language.codecs import CODECS, CoordinateCodec, Size
from domainsam.prompter.language.patterns import PATTERNS, make_points

MODES = ("ppg", "pqpp")
"""How a model is asked: for box and points directly, or for a box and then about points of it."""
ADDRESS = re.compile(r"https?://", re.IGNORECASE)
MOST_TOKENS = 4096


@dataclass(frozen=True, eq=False)
class Question:
    """A picture ``(H, W, 3)`` uint8 RGB, and what was said of it so far.

    ``turns`` are pairs of who speaks (``user``, ``assistant``) and the text, the last one a question.
    """

    picture: NDArray[np.uint8]
    turns: tuple[tuple[str, str], ...]
    system: str = ""


class Speaker(Protocol):
    """A language model that sees pictures."""

    name: str
    kind: str
    """Its family, for codecs and wordings: ``model_type`` of a model's configuration."""
    identity: str
    """Everything that decides its answers: model, adapter, server."""
    codec: CoordinateCodec
    at_once: int
    """Questions that it takes together."""

    def refuse(self, phrase: str) -> None:
        """Refuse words of a person that would steer the model.

        Raises
        ------
        InputError
            If they hold one of its control tokens.
        """
        ...

    def fit(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture in a size that it can be shown in."""
        ...

    def seen(self, size: Size) -> Size:
        """Height and width in which a picture of that size is seen, for coordinates in pixels."""
        ...

    def write(self, questions: Sequence[Question], limit: int) -> list[Said]:
        """Answers of at most ``limit`` tokens each, the likeliest at every step.

        Raises
        ------
        InputError
            If a question cannot be asked of this model.
        EndpointError
            If a server is down, slow, or answers something else.
        """
        ...

    def weigh(
        self, questions: Sequence[Question], counts: Sequence[int], words: tuple[str, str]
    ) -> list[NDArray[np.float64]]:
        """How likely each of the two words is as each of the next ``counts`` answers: ``(count, 2)``.

        Probabilities are over the whole vocabulary, so that a row's sum is 1 at most.

        Raises
        ------
        InputError, EndpointError
            As of :meth:`write`.
        """
        ...

    def aligns(self, words: tuple[str, str]) -> bool:
        """Whether a row of such words is one token each, so that points can be asked about together."""
        ...


@dataclass(frozen=True)
class AskOptions:
    """Which model is asked, and how.

    Parameters
    ----------
    mllm
        Folder of a Hugging Face model, the name of one in the local cache, or the address of a server of
        the OpenAI form with the model's name behind ``#``.
    mode
        One of :data:`MODES`.
    coordinates
        Name of a codec; None for what the model's family writes.
    wording
        Template file in the place of ours.
    adapter
        LoRA adapter: a folder of PEFT's, or the file that ``train-words`` writes.
    max_tokens
        Longest answer.
    pattern, points
        Points of a box in mode ``pqpp``.
    yes, no
        Least confidence for a point on the object, and beside it; SAM4MLLM's, tested ``no`` first.
    least
        Least score of an object.
    most
        So many objects at most, the best.
    at_once
        Questions answered together.
    timeout
        Seconds that a server may take for an answer.
    allow_remote
        Whether pictures of patients may be sent to another machine.

    Raises
    ------
    ConfigError
        If a value is impossible.
    """

    mllm: str
    mode: str = "ppg"
    coordinates: str | None = None
    wording: Path | None = None
    adapter: Path | None = None
    max_tokens: int = 256
    pattern: str = PATTERNS[0]
    points: int = 15
    yes: float = 0.75
    no: float = 0.9
    least: float = 0.0
    most: int = 1000
    at_once: int = 4
    timeout: float = 120.0
    allow_remote: bool = False

    def __post_init__(self) -> None:
        if not self.mllm.strip():
            raise ConfigError("nothing says which language model to ask: name one with --mllm PATH")
        if self.mode not in MODES:
            raise ConfigError(f"mode is {self.mode!r}, expected one of: {', '.join(MODES)}")
        if self.coordinates is not None and self.coordinates not in CODECS:
            raise ConfigError(f"coordinates are {self.coordinates!r}, expected one of: {', '.join(CODECS)}")
        make_points(self.pattern, self.points)
        for name in ("yes", "no", "least"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected 0 to 1")
        if not 1 <= self.max_tokens <= MOST_TOKENS:
            raise ConfigError(f"max_tokens is {self.max_tokens}, expected 1 to {MOST_TOKENS}")
        if self.most < 1 or self.at_once < 1:
            raise ConfigError("the most objects, and questions at once, are 1 or more")
        if not self.timeout > 0:
            raise ConfigError(f"timeout is {self.timeout} s, expected more than 0")
        if self.adapter is not None and self.remote:
            raise ConfigError("--adapter goes with a model on this machine; a server has its own")

    @property
    def remote(self) -> bool:
        """Whether a server is asked."""
        return ADDRESS.match(self.mllm) is not None


def load_speaker(options: AskOptions, device: str = "auto", precision: str = "auto") -> Speaker:
    """The model that the options name.

    Raises
    ------
    ConfigError
        If the address is none, or the device is unknown.
    WeightsError
        If there is no such model on this machine.
    CheckpointError
        If it cannot be used.
    DependencyError
        If it needs a package that is not installed.
    """
    if options.remote:
        from domainsam.prompter.language.endpoint import EndpointSpeaker

        return EndpointSpeaker.of(options)
    from domainsam.prompter.language.folders import load_hugging

    return load_hugging(options, device, precision)
