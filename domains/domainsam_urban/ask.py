"""Find in a scene what words mean, as a language model sees its tiles: one ranking over the whole scene."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import perf_counter

from domainsam.infer.answers import KeptAnswers
from domainsam.infer.networks import Networks, identify
from domainsam.infer.objects import EngineResult
from domainsam.infer.view import SceneView
from domainsam.progress import Progress, report_nothing
from domainsam.prompter.language.source import LanguageSource
from domainsam_urban.job import ASKED
from domainsam_urban.model.asked import AskedObjects
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.write.staged import stage_found


def find_asked(
    source: RasterSource,
    model: AskedObjects,
    folder: Path,
    resume: bool = False,
    progress: Progress = report_nothing,
) -> EngineResult:
    """Find what a phrase means, best first; finding nothing is an answer, and no answer is told.

    Parameters
    ----------
    folder
        Takes the staged answer, and the journal of what the model said.
    resume
        Take the answers that an earlier run has in ``folder``.

    Raises
    ------
    InputError
        If the run to resume was another one.
    CheckpointError, EndpointError
        If the model cannot be asked.
    OutputError
        If the folder cannot be written.
    """
    begin = perf_counter()
    networks = Networks(model.foundation, model.device, model.precision)
    view = SceneView(source, networks, model.foundation)
    identity = {
        **source.fingerprint,
        "phrase": model.phrase,
        "model": model.speaker.identity,
        "foundation": identify(model.foundation),
    }
    with KeptAnswers(folder, identity, resume) as memory:
        search = LanguageSource(
            model.speaker, model.phrase, model.foundation, model.ask, memory=memory, progress=progress
        )
        found = tuple(search.find(view))
        resumed = memory.resumed
    told = {
        "way": ASKED,
        "words": model.phrase,
        "model": model.speaker.name,
        "mode": model.ask.mode,
        "found": len(found),
        **search.tally.document(),
    }
    seconds = {"ask": perf_counter() - begin}
    return replace(stage_found(source, found, (model.phrase,), folder, told, seconds), resumed=resumed)
