"""Scenes seen by several sensors: one semantic map."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from domainsam.packs import DomainPack

if TYPE_CHECKING:
    from domainsam_scene.model.scene import load_model as load_model

PACK = DomainPack(
    name="scene",
    summary="scenes seen by several sensors: one semantic map, also when some fail",
    labels=(
        "background",
        "ground",
        "marking",
        "vegetation",
        "barrier",
        "parked vehicle",
        "moving vehicle",
        "board",
        "sign",
        "person",
    ),
    commands="domainsam_scene.commands:scene",
    open="domainsam_scene.run:open_scene",
    save="domainsam_scene.run:save_found",
    run="domainsam_scene.run:run_segment",
    formats="domainsam_scene.run:formats",
    convert="domainsam_scene.model.convert:convert",
    demo="domainsam_scene.commands.demo:demo",
)

__all__ = ["PACK", "load_model"]


def __getattr__(name: str) -> Any:
    if name != "load_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("domainsam_scene.model.scene").load_model
