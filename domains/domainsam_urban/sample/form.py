"""The form in which a person says what is at the points of a sample: one HTML page, no network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from domainsam import __version__
from domainsam.io.pages import encode_data_uri, render
from domainsam.names import show
from domainsam_urban.sample.chips import Framing
from domainsam_urban.sample.settings import SampleOptions

FIELDS = ("id", "lon", "lat", "stratum", "weight", "stratum_ha", "probability")
"""What the form keeps of a point and gives back with the labels."""


def render_form(
    table: Any,
    labels: Sequence[str],
    chips: Mapping[str, Sequence[tuple[bytes, bytes] | None]],
    framing: Framing,
    options: SampleOptions,
) -> str:
    """The whole page as text.

    The strata are in the page, because what it saves needs them, but it never
    shows them, nor what the maps say: a person who knows that sees it.

    Parameters
    ----------
    table
        As :func:`domainsam_urban.sample.write.make_table` gives it.
    chips
        Detail and context of every point as PNG files, by year; years without a scene are absent.
    """
    points = [
        {
            **{name: _plain(row[name]) for name in FIELDS},
            "chips": {label: _address(chips[label][index]) for label in labels if label in chips},
        }
        for index, row in enumerate(table.to_dict("records"))
    ]
    content = {
        "name": show(options.out.stem),
        "years": list(labels),
        "fields": list(FIELDS),
        "points": points,
        "unit": framing.unit_m / framing.detail_m,
        "detail_m": framing.detail_m,
        "context_m": framing.context_m,
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    # Progress belongs to this very sample: another one in the same browser starts anew.
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    script = files("domainsam_urban").joinpath("templates", "sample.js").read_text(encoding="utf-8")
    return render(
        "domainsam_urban",
        "sample.html.j2",
        name=options.out.stem,
        labels=labels,
        count=len(points),
        framing=framing,
        pictured=bool(chips),
        data=Markup(escape_json(text)),
        key=key,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        command=options.command,
        version=__version__,
    )


def escape_json(text: str) -> str:
    """JSON that can stand inside a script element whatever its strings hold."""
    for sign, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(sign, code)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _address(pair: tuple[bytes, bytes] | None) -> list[str] | None:
    return None if pair is None else [encode_data_uri(chip, "image/png") for chip in pair]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
