"""Organs in abdominal CT: masks, volumes, reports."""

from domainsam.packs import DomainPack

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
    source="domainsam_ct.read.open:VolumeSource",
    writer="domainsam_ct.write.masks:MaskWriter",
    demo="domainsam_ct.commands.demo:demo",
    describe="domainsam_ct.commands.demo:describe",
)
