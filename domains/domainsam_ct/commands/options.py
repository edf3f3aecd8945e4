"""Options that ``domainsam ct segment`` and ``domainsam ct export`` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.options import bundle
from domainsam_ct.settings import SEG_TYPES

if TYPE_CHECKING:
    from domainsam_ct.identifiers import Identifiers

PATH = click.Path(path_type=Path)

identifier_options = bundle(
    click.option(
        "--keep-identifiers",
        is_flag=True,
        help="Let patient names and numbers into file names and reports.",
    ),
    click.option(
        "--pseudonym-key",
        type=PATH,
        help="File with the key of the names that stand for patients [default: made beside the outputs].",
    ),
)
"""Options that say what of a patient outputs tell."""


def make_identifiers(given: Mapping[str, Any], outputs: Sequence[Path]) -> Identifiers:
    """What these options say, of a command that writes no case by itself."""
    from domainsam_ct.identifiers import Identifiers

    return Identifiers(given["keep_identifiers"], given["pseudonym_key"], next(iter(outputs), None))


summary_options = bundle(
    click.option("--preview", is_flag=True, help="Picture of three planes with contours, PNG."),
    click.option("--report", is_flag=True, help="One page with pictures and volumes, HTML."),
    click.option("--statistics", is_flag=True, help="Volumes and Hounsfield units, JSON and CSV."),
)
"""Options for what people read."""

object_options = bundle(
    click.option("--rtstruct", is_flag=True, help="Contours as DICOM RTSTRUCT."),
    click.option(
        "--seg-type",
        type=click.Choice(SEG_TYPES),
        default="binary",
        show_default=True,
        help="DICOM SEG as bits for each organ, as the same compressed, or as one label map.",
    ),
    click.option("--dicom-seg", is_flag=True, help="Mask as DICOM SEG."),
)
"""Options for DICOM objects."""

deskew_option = click.option(
    "--deskew", is_flag=True, help="Of a tilted gantry: mask and scan on perpendicular axes too, for ITK."
)
series_option = click.option(
    "--series", help="Series, where a folder holds several: UID, or name in the notes."
)
