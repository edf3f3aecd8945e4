"""Informal settlements from satellite scenes."""

from domainsam.packs import DomainPack

PACK = DomainPack(
    name="urban",
    summary="informal settlements from satellite scenes: polygons, areas, changes",
    labels=("background", "settlement"),
    commands="domainsam_urban.commands:urban",
    source="domainsam_urban.raster:RasterSource",
    writer="domainsam_urban.cog:CogWriter",
    demo="domainsam_urban.demo_command:demo",
    describe="domainsam_urban.describe:describe",
)
