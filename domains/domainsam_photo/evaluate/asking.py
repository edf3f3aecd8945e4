"""Sentences about pictures, answered by a language model; its answers are kept while an evaluation runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.foundation import load_decoder
from domainsam.infer.answers import KeptAnswers
from domainsam.infer.pictures import PictureView
from domainsam.infer.workroom import WorkRoom
from domainsam.prompter.language.answers import Memory
from domainsam.prompter.language.source import LanguageSource, Tally
from domainsam.prompter.language.speakers import AskOptions, Speaker, load_speaker
from domainsam.protocols import Foundation
from domainsam_photo.evaluate.sentences import Sentence
from domainsam_photo.refer import limit_picture


class AskedSentences:
    """The masks of what sentences mean, as a language model and a foundation see it.

    Parameters
    ----------
    speaker, foundation
        Who says where, and who makes masks of it.
    options
        How the model is asked; the best ``options.most`` objects are one mask together.
    memory
        Keeps answers.

    ``tally`` counts what became of the questions, over all sentences.
    """

    def __init__(
        self, speaker: Speaker, foundation: Foundation, options: AskOptions, memory: Memory | None = None
    ) -> None:
        self.speaker, self.foundation, self.options = speaker, foundation, options
        self.tally = Tally()
        self._memory = memory
        self._picture: NDArray[np.uint8] | None = None

    @property
    def name(self) -> str:
        """Of the model and the foundation."""
        return f"{self.speaker.name} and {self.foundation.name}"

    def __call__(self, picture: NDArray[np.uint8], sentence: Sentence) -> NDArray[np.bool_]:
        """The mask ``(H, W)`` of what a sentence means; empty where that is nothing, or no answer came.

        Raises
        ------
        ConfigError
            If the model cannot be asked in this mode.
        EndpointError
            If its server does not answer.
        """
        view, large = self._look(picture)
        mask = np.zeros(picture.shape[:2], bool)
        try:
            source = LanguageSource(
                self.speaker,
                sentence.text,
                self.foundation,
                self.options,
                memory=self._memory,
                shown=lambda _: large,
            )
        except InputError as error:
            # A sentence that cannot be asked counts as one without an answer: leaving it out must not pay.
            self._add(Tally(1, unanswered=[{"why": str(error), "text": ""}]), sentence)
            return mask
        for _, objects in source.look_through(view, range(view.frames)):
            for one in objects[: self.options.most]:
                mask |= view.enlarge_mask(one)
        self._add(source.tally, sentence)
        return mask

    def _look(self, picture: NDArray[np.uint8]) -> tuple[PictureView, NDArray[np.uint8]]:
        """The picture as foundation and model are shown it, kept for its next sentence."""
        if self._picture is not picture:
            self._picture = picture
            self._view = PictureView(lambda _: picture, 1, self.foundation)
            self._large = limit_picture(picture)
        return self._view, self._large

    def _add(self, tally: Tally, sentence: Sentence) -> None:
        self.tally.asked += tally.asked
        self.tally.recalled += tally.recalled
        self.tally.nothing += tally.nothing
        self.tally.unanswered += [{"sentence": sentence.key, **one} for one in tally.unanswered]

    def document(self) -> dict[str, Any]:
        """What became of the questions, as JSON can hold it."""
        return {"model": self.speaker.name, "mode": self.options.mode, **self.tally.document()}


@contextmanager
def open_asked(
    ask: AskOptions,
    foundation: str | Path | None,
    device: str,
    precision: str,
    work: Path | None = None,
    resume: bool = False,
) -> Iterator[AskedSentences]:
    """A model that answers sentences.

    Parameters
    ----------
    work
        Hidden folder in which answers are kept until the block ends well; None for none.
    resume
        Whether those of an earlier run are taken.

    Raises
    ------
    ConfigError, WeightsError, CheckpointError, DependencyError
        If a model cannot be loaded.
    InputError
        If the run to resume asked another model.
    OutputError
        If answers cannot be kept.
    """
    speaker = load_speaker(ask, device, precision)
    decoder, _ = load_decoder(foundation, device, precision)
    with ExitStack() as stack:
        memory = None
        if work is not None:
            room = stack.enter_context(WorkRoom(work, resume))
            identity = {"sentences": "evaluate", "model": speaker.identity}
            memory = stack.enter_context(KeptAnswers(room.folder, identity, resume))
        yield AskedSentences(speaker, decoder, ask, memory)
