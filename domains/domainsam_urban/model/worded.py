"""In the place of a model where words say what is looked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from domainsam.errors import ConfigError
from domainsam.foundation import load_decoder
from domainsam.marks import MarkFiles
from domainsam.protocols import Namer, Word
from domainsam.vocabulary import load_vocabulary_model
from domainsam.vocabulary.words import gather_words
from domainsam_urban.model.settlement import MarkedObjects
from domainsam_urban.settings import MapOptions, WordOptions


@dataclass(frozen=True)
class WordedObjects(MarkedObjects):
    """What is looked for, the model that names objects, and the foundation that proposes them."""

    namer: Namer = field(kw_only=True)
    words: tuple[Word, ...] = ()
    asked: WordOptions = field(default_factory=WordOptions)


def load_worded(options: MapOptions) -> WordedObjects:
    """The models that look for what words say; words are read, and understood, before anything large.

    Raises
    ------
    ConfigError
        If no word is given, or the device is unknown or absent.
    MissingInputError, InputError
        If the file of words does not exist or cannot be used, or a word is not understood.
    WeightsError, CheckpointError, DependencyError
        If a model cannot be loaded.
    """
    asked, run = options.words, options.run
    if asked is None:
        raise ConfigError("nothing says what to look for: name a word, such as --words roof")
    words = gather_words(asked.words, asked.vocabulary)
    namer = load_vocabulary_model(asked.model, run.device, run.precision)
    namer.understand(words)
    foundation, precision = load_decoder(options.foundation, run.device, run.precision)
    return WordedObjects(
        MarkFiles(),
        foundation,
        foundation.device,
        precision,
        name=namer.name,
        namer=namer,
        words=words,
        asked=asked,
    )
