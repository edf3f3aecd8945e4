"""``urban segment-everything`` by keyword."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from domainsam.keywords import check_keywords, keyword_names
from domainsam_urban.run import Paths, map_inputs, map_options
from domainsam_urban.run_alike import NO_PART, search_options
from domainsam_urban.settings import MapOptions

if TYPE_CHECKING:
    from domainsam_urban.job import Batch, SceneResult


def everything_options(
    *,
    per_side: int | None = None,
    least_iou: float | None = None,
    least_stability: float | None = None,
    same: float = 0.7,
    **options: Any,
) -> MapOptions:
    """The options of ``domainsam urban segment-everything`` as one value.

    Parameters
    ----------
    per_side
        Points along each side of a window of the foundation's size; one every 32 pixels unless told.
    least_iou, least_stability
        What a mask has to have: the foundation's estimate of its IoU, and the IoU of its cuts a logit
        apart; by default what suits the foundation's own scores.
    same
        Of two objects whose boxes' IoU is greater, the less trusted goes.
    **options
        Keywords of :func:`~domainsam_urban.run.map_options` but those of
        :data:`~domainsam_urban.run_alike.NO_PART`. ``min_area`` is in m², by default 64 pixels.

    Raises
    ------
    ConfigError
        If one is unknown or impossible.
    """
    from domainsam.prompter.everything import EverythingOptions

    known = tuple(name for name in keyword_names(map_options) if name not in NO_PART)
    check_keywords("urban segment-everything", options, (*known, *keyword_names(everything_options)))
    keep = EverythingOptions(per_side, least_iou, least_stability, same)
    return replace(search_options(options), everything=keep)


def run_everything(inputs: Any, out: Paths, **options: Any) -> SceneResult | Batch:
    """Outline everything that scenes show, as ``domainsam urban segment-everything`` does.

    Parameters
    ----------
    inputs
        A path or ``/vsi`` path, or several of them.
    out, **options
        As ``-o``, and keywords of :func:`everything_options`.

    Raises
    ------
    ConfigError
        If an option is unknown or impossible.
    DomainSamError
        Of a single scene, whatever made it fail.
    """
    return map_inputs(inputs, everything_options(out=out, **options))
