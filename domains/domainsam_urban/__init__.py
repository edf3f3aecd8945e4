"""Informal settlements from satellite scenes."""

from domainsam.packs import DomainPack

PACK = DomainPack(
    name="urban",
    summary="informal settlements from satellite scenes: polygons, areas, changes",
    labels=("background", "settlement"),
    commands="domainsam_urban.commands:urban",
    source="domainsam_urban.read.scene:RasterSource",
    writer="domainsam.io.cog:CogWriter",
    demo="domainsam_urban.commands.demo:demo",
    describe="domainsam_urban.commands.demo:describe",
)
