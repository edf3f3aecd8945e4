"""Score a model of words on a published layout, picture by picture."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from domainsam.errors import ConfigError, DomainSamError, EndpointError, explain
from domainsam.progress import Progress, report_nothing
from domainsam_photo.evaluate.naming import MAP_LAYOUTS, NAMING_LAYOUTS
from domainsam_photo.evaluate.score_maps import prepare_maps
from domainsam_photo.evaluate.score_names import prepare_naming
from domainsam_photo.evaluate.score_sentences import Refer, Watch, prepare_sentences
from domainsam_photo.evaluate.word_scores import WordEvaluation
from domainsam_photo.evaluate.word_work import WordOptions


def evaluate_words(
    root: Path,
    options: WordOptions,
    progress: Progress = report_nothing,
    refer: Refer | None = None,
    watch: Watch | None = None,
) -> WordEvaluation:
    """Score a model of words on a published layout.

    COCO and LVIS: the share of true objects that get their own class's name, and its mean over classes.
    ADE20K, VOC, Pascal Context and the like: mean IoU over classes, from one confusion matrix. RefCOCO:
    cIoU (sums of intersections and unions), gIoU (mean IoU) and the share with IoU of a half or more.

    Parameters
    ----------
    refer
        Answers sentences, instead of the masks in ``options.answers`` and of the model ``options.ask``.
    watch
        Is shown every sentence's answer.

    Raises
    ------
    ConfigError
        If the model cannot do what the layout asks for, or nothing could be scored.
    InputError
        If the set is not of its layout.
    WeightsError, CheckpointError, DependencyError
        If a model cannot be loaded.
    EndpointError
        If a server that answers sentences does not: what it said so far is kept in ``options.work``.
    """
    with ExitStack() as stack:
        if options.layout in NAMING_LAYOUTS:
            result, work, items = prepare_naming(root, options)
        elif options.layout in MAP_LAYOUTS:
            result, work, items = prepare_maps(root, options)
        else:
            result, work, items = prepare_sentences(root, options, refer, watch, stack)
        items = items[: options.limit]
        for done, item in enumerate(items, 1):
            try:
                result.units.append(work(item))
            except EndpointError:
                # A server that is down would make every picture to come one that could not be scored.
                raise
            except DomainSamError as error:
                result.skipped.append((_name_of(item), explain(error)[0]))
            progress("score", done, len(items))
    if not result.units:
        reason = result.skipped[0][1] if result.skipped else "it holds no picture"
        raise ConfigError(f"{root}: nothing could be scored ({reason})")
    return result


def _name_of(item: Any) -> str:
    path: Path = item[0] if isinstance(item, tuple) else item.path
    return path.name
