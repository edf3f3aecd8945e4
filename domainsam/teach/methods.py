"""The methods of ``domainsam train-words``, a row each, and the options that only some of them have.

Reading this table imports no method. A new one is a row here and a module with its function, of the form
``function(data: Path, options: TeachOptions, **own) -> Trained``; ``own`` are the options that the row names,
those alone that were given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from domainsam.errors import ConfigError
from domainsam.keywords import check_choice
from domainsam.plugins import import_attribute

if TYPE_CHECKING:
    from domainsam.teach.options import TeachOptions
    from domainsam.train.start import Trained

Kind = Literal["path", "text", "whole", "number", "flag"]


@dataclass(frozen=True)
class TeachingOption:
    """An option that some methods have.

    Parameters
    ----------
    help
        Its line of help, with the default.
    kind
        What a value is.
    choices
        Values of a text, where only some are allowed.
    least
        Of a number.
    """

    help: str
    kind: Kind = "text"
    choices: tuple[str, ...] = ()
    least: float | None = None


@dataclass(frozen=True)
class Method:
    """A way to teach words.

    Parameters
    ----------
    name
        As ``--method`` has it.
    runner
        ``"module:function"``.
    summary
        A line for the help.
    data
        What ``DATA`` is.
    options
        Names in :data:`OPTIONS`.
    needs
        Those of them without which it cannot work.
    """

    name: str
    runner: str
    summary: str
    data: str
    options: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


OPTIONS: Mapping[str, TeachingOption] = {
    "stage": TeachingOption("Stage to train; samclip: the last one [default: all].", choices=("1", "2")),
    "clip": TeachingOption("Weights of CLIP: a file, or a folder that holds them.", "path"),
    "teacher": TeachingOption("Foundation that is learnt from: name or weight file."),
    "start": TeachingOption("Folder or file of weights to begin with.", "path"),
    "base": TeachingOption("File of the words that are learnt; others are held back as new.", "path"),
    "prompts": TeachingOption("Prompts of a picture [default: 40].", "whole", least=2),
    "rehearsal": TeachingOption("Folder of pictures that rehearse SAM [default: DATA].", "path"),
    "clip_head_init": TeachingOption("How HeadCLIP begins [default: sam].", choices=("sam", "random")),
    "vocabulary": TeachingOption("File of words whose vectors go into the file.", "path"),
    "mllm": TeachingOption("Folder of the language model that is adapted.", "path"),
    "mode": TeachingOption("Dialogues of this mode alone [default: both].", choices=("ppg", "pqpp")),
    "rank": TeachingOption("Rank of LoRA [default: 128].", "whole", least=1),
    "wording": TeachingOption("What the model is asked, TOML [default: ours].", "path"),
    "coordinates": TeachingOption(
        "How it writes places [default: as its family does].",
        choices=("thousandths", "pixels", "thousand", "loc1024", "loc1000"),
    ),
}
"""Options that not all methods have, by keyword; on the command line with hyphens."""

METHODS: dict[str, Method] = {
    row.name: row
    for row in (
        Method(
            "ovsam",
            "domainsam.teach.ovsam:teach",
            "Open-Vocabulary SAM: SAM2CLIP from pictures alone, then CLIP2SAM from named masks.",
            "a folder of pictures (stage 1), of COCO's layout with annotations (stage 2)",
            ("stage", "clip", "teacher", "start", "base", "prompts"),
        ),
        Method(
            "samclip",
            "domainsam.teach.samclip:teach",
            "SAM-CLIP: one ViT that serves SAM and a CLIP, from pictures alone.",
            "a folder of pictures",
            ("stage", "clip", "teacher", "rehearsal", "clip_head_init", "vocabulary"),
            ("clip",),
        ),
        Method(
            "sam4mllm",
            "domainsam.teach.sam4mllm:teach",
            "SAM4MLLM: LoRA on dialogues, so that a language model points at what words mean.",
            "JSON lines with image, phrase and masks, or a folder with dialogues.jsonl",
            ("mllm", "mode", "rank", "teacher", "wording", "coordinates"),
            ("mllm",),
        ),
    )
}


def find_method(name: str) -> Method:
    """The method of that name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    return METHODS[check_choice("--method", name, METHODS)]


def check_options(method: Method, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a method that were given.

    Raises
    ------
    ConfigError
        If one is another method's, or one that it needs is missing.
    """
    own = {name: value for name, value in given.items() if value is not None and value is not False}
    for name in own:
        if name not in method.options:
            having = ", ".join(row.name for row in METHODS.values() if name in row.options) or "no method"
            raise ConfigError(
                f"--{name.replace('_', '-')} is of no use with --method {method.name} "
                f"(it belongs to {having}): leave it out"
            )
    for name in method.needs:
        if name not in own:
            raise ConfigError(
                f"--method {method.name} needs --{name.replace('_', '-')}: {OPTIONS[name].help.rstrip('.')}"
            )
    return own


def teach_words(method: str, data: str | Path, options: TeachOptions, **own: Any) -> Trained:
    """Teach by a method, as ``domainsam train-words`` does.

    Raises
    ------
    ConfigError
        If the method or an option is unknown or impossible.
    DomainSamError
        Whatever makes the method fail.
    """
    row = find_method(method)
    chosen = check_options(row, own)
    runner = import_attribute(row.runner)
    made: Trained = runner(Path(data), options, **chosen)
    return made
