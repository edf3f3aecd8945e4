"""Informal settlements from satellite scenes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from domainsam.packs import DomainPack

if TYPE_CHECKING:
    from domainsam_urban.run import load_model as load_model

PACK = DomainPack(
    name="urban",
    summary="informal settlements from satellite scenes: polygons, areas, changes",
    labels=("background", "settlement"),
    commands="domainsam_urban.commands:urban",
    open="domainsam_urban.run:open_scene",
    save="domainsam_urban.run:save_found",
    find="domainsam_urban.run_alike:find_in",
    ask="domainsam_urban.run_ask:ask_in",
    run="domainsam_urban.run:run_map",
    many="domainsam_urban.many:JOB",
    formats="domainsam_urban.run:formats",
    convert="domainsam_urban.model.convert:convert",
    demo="domainsam_urban.commands.demo:demo",
    describe="domainsam_urban.commands.demo:describe",
)

__all__ = ["PACK", "load_model"]


def __getattr__(name: str) -> Any:
    if name != "load_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("domainsam_urban.run").load_model
