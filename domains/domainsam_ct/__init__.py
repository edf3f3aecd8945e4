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
    source="domainsam_ct.volume:VolumeSource",
    writer="domainsam_ct.masks:MaskWriter",
    demo="domainsam_ct.demo_command:demo",
    describe="domainsam_ct.describe:describe",
)
