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
    source="domainsam_scene.source:SceneSource",
    writer="domainsam_scene.mapwriter:MapWriter",
    demo="domainsam_scene.demo_command:demo",
)
