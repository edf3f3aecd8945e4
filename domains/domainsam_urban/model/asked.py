"""In the place of a model where words say what is looked for, and a language model where it is."""

from __future__ import annotations

from dataclasses import dataclass

from domainsam.foundation import load_decoder
from domainsam.marks import MarkFiles
from domainsam.prompter.language.speakers import AskOptions, Speaker, load_speaker
from domainsam.prompter.language.wording import check_phrase
from domainsam_urban.model.settlement import MarkedObjects
from domainsam_urban.settings import MapOptions


@dataclass(frozen=True, kw_only=True)
class AskedObjects(MarkedObjects):
    """What is looked for, the language model, and the foundation that makes masks."""

    phrase: str
    speaker: Speaker
    ask: AskOptions


def load_asked(options: MapOptions) -> AskedObjects:
    """The language model and the foundation that look for what words mean.

    Raises
    ------
    InputError
        If the words say nothing.
    ConfigError
        If the device is unknown or absent.
    WeightsError, CheckpointError, DependencyError
        If one of the two cannot be loaded.
    """
    assert options.ask is not None
    phrase = check_phrase(options.phrase)
    run = options.run
    speaker = load_speaker(options.ask, run.device, run.precision)
    foundation, precision = load_decoder(options.foundation, run.device, run.precision)
    return AskedObjects(
        MarkFiles(),
        foundation,
        foundation.device,
        precision,
        phrase=phrase,
        speaker=speaker,
        ask=options.ask,
    )
