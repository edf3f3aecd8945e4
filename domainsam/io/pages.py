"""Render HTML reports as single files without network, scripts or other files."""

from __future__ import annotations

import base64
import math
from typing import Any, Protocol

from jinja2 import ChoiceLoader, Environment, PackageLoader, PrefixLoader, StrictUndefined
from markupsafe import Markup

from domainsam.names import show


class Span(Protocol):
    """An estimate and the ends of its interval, as :class:`domainsam.metrics.bootstrap.Interval` is."""

    value: float
    low: float
    high: float


def render(package: str, template: str, **context: Any) -> str:
    """The whole page as text.

    Parameters
    ----------
    package
        The pack whose ``templates`` folder holds the template.
    template
        Its file name. It may begin with ``{% extends "shared/page.html.j2" %}``
        to take over the page's frame and style.
    context
        What the template is told. Text is escaped unless it says it is markup.
        Filters: ``score``, ``span`` and ``data_uri`` of this module.
    """
    shared = PrefixLoader({"shared": PackageLoader("domainsam_cli")})
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), shared]),
        autoescape=True,
        finalize=_show,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(score=format_score, span=format_span, data_uri=encode_data_uri)
    return environment.get_template(template).render(**context)


def _show(value: Any) -> Any:
    """Texts without characters that steer; markup, numbers and undefined values as they are."""
    return show(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def format_score(value: float) -> str:
    """Three decimals, or a dash for what is undefined."""
    return f"{value:.3f}" if math.isfinite(value) else "–"


def format_span(interval: Span) -> str:
    """The ends of an interval, or why there are none."""
    if not math.isfinite(interval.low):
        return "no interval" if math.isfinite(interval.value) else "undefined"
    return f"{interval.low:.3f} to {interval.high:.3f}"


def encode_data_uri(content: bytes | str, media_type: str) -> str:
    """A file's content as an address that holds it."""
    raw = content.encode() if isinstance(content, str) else content
    return f"data:{media_type};base64,{base64.b64encode(raw).decode()}"
