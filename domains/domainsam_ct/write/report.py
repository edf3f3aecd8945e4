"""HTML report of one segmented case, as a single file."""

from __future__ import annotations

from collections.abc import Mapping

from domainsam import __version__
from domainsam.familiar import NOT_COMPARED
from domainsam.io.charts import encode_png
from domainsam.io.pages import render
from domainsam.limits import tell_changing
from domainsam_ct.job import CaseResult
from domainsam_ct.labels import LabelMap
from domainsam_ct.write.preview import Colours

PLANE_TEXT = {
    "axial": "Axial, seen from the feet: the patient's right is on the left.",
    "coronal": "Coronal, seen from the front.",
    "sagittal": "Sagittal: front on the left.",
}


def render_case(result: CaseResult, labels: LabelMap, pictures: Mapping[str, Colours]) -> str:
    """The page about one segmented case."""
    return render(
        "domainsam_ct",
        "case.html.j2",
        result=result,
        seconds=tell_changing(result.seconds),
        organs={organ.name: labels[organ.value] for organ in result.organs},
        pictures={name: encode_png(picture) for name, picture in pictures.items()},
        plane_text=PLANE_TEXT,
        notice=result.notice,
        not_compared=NOT_COMPARED,
        version=__version__,
    )
