"""Organs in abdominal CT: masks, volumes, reports."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from domainsam.packs import DomainPack

if TYPE_CHECKING:
    from domainsam_ct.model.organs import load_model as load_model
    from domainsam_ct.run import export_mask as export_mask

PACK = DomainPack(
    name="ct",
    summary="abdominal CT: organ masks in the space of the scan, with volumes",
    labels=(
        "background",
        "spleen",
        "kidney_right",
        "kidney_left",
        "gallbladder",
        "liver",
        "stomach",
        "aorta",
        "pancreas",
    ),
    commands="domainsam_ct.commands:ct",
    open="domainsam_ct.run:open_scan",
    save="domainsam_ct.run:save_found",
    find="domainsam_ct.run_alike:find_in",
    ask="domainsam_ct.run_ask:ask_in",
    run="domainsam_ct.run:run_segment",
    many="domainsam_ct.many:JOB",
    formats="domainsam_ct.run:formats",
    convert="domainsam_ct.model.convert:convert",
    demo="domainsam_ct.commands.demo:demo",
    describe="domainsam_ct.commands.demo:describe",
)

__all__ = ["PACK", "export_mask", "load_model"]

LAZY = {"load_model": "domainsam_ct.model.organs", "export_mask": "domainsam_ct.run"}
"""Where names are that the package's root gives out."""


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(LAZY[name]), name)
