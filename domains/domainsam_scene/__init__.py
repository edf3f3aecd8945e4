"""Scenes seen by several sensors: one semantic map."""

from domainsam.packs import DomainPack

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
    source="domainsam_scene.read.rasters:SceneSource",
    writer="domainsam.io.cog:CogWriter",
    demo="domainsam_scene.commands.demo:demo",
)
