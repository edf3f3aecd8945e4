"""Photographs and films: what is marked, what looks alike, what moves."""

from domainsam.packs import DomainPack

PACK = DomainPack(
    name="photo",
    summary="photographs and films: objects marked, found by example, followed",
    labels=("background", "object"),
    commands="domainsam_photo.commands:photo",
    open="domainsam_photo.run:open_photo",
    save="domainsam_photo.run:save_found",
    ask="domainsam_photo.run_words:ask_in",
    run="domainsam_photo.run:run_segment",
    formats="domainsam_photo.run:formats",
    demo="domainsam_photo.commands.demo:demo",
)

__all__ = ["PACK"]
