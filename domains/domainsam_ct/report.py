"""Reports as single HTML files that need nothing else: no network, no scripts, no other files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from domainsam import __version__
from domainsam_cli.reports import render
from domainsam_ct.labels import LabelMap, organ_named
from domainsam_ct.preview import Colours, png
from domainsam_ct.results import NOTICE, CaseResult
from domainsam_ct.scores import PERCENTILE

if TYPE_CHECKING:
    from domainsam_ct.evaluation import Evaluation
    from domainsam_ct.pictures import Picture

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
        organs={organ.name: labels[organ.value] for organ in result.organs},
        pictures={name: png(picture) for name, picture in pictures.items()},
        plane_text=PLANE_TEXT,
        notice=NOTICE,
        version=__version__,
    )


def render_evaluation(
    evaluation: Evaluation, pictures: Sequence[Picture], predicted: str, truth: str, command: str
) -> str:
    """The page about a comparison of masks with labels."""
    from domainsam_ct.pictures import COLOURS

    return render(
        "domainsam_ct",
        "evaluation.html.j2",
        evaluation=evaluation,
        organs={name: organ_named(name) for name in evaluation.organs},
        pictures=pictures,
        predicted=predicted,
        truth=truth,
        command=command,
        colours=COLOURS,
        percentile=PERCENTILE,
        version=__version__,
    )
