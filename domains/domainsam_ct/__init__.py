"""Organs in abdominal CT: masks, volumes, reports."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from domainsam.packs import DomainPack

if TYPE_CHECKING:
    from domainsam_ct.model.organs import load_model as load_model

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
    run="domainsam_ct.run:run_segment",
    formats="domainsam_ct.run:formats",
    convert="domainsam_ct.model.convert:convert",
    demo="domainsam_ct.commands.demo:demo",
    describe="domainsam_ct.commands.demo:describe",
)

__all__ = ["PACK", "load_model"]


def __getattr__(name: str) -> Any:
    if name != "load_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("domainsam_ct.model.organs").load_model
