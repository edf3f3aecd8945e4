"""Options of ``trend`` and ``change`` as click gives them, made into one value."""

from __future__ import annotations

from typing import Any

from domainsam_cli.answers import command_line
from domainsam_urban.map_options import ReadOptions, RunOptions, ShapeOptions
from domainsam_urban.trend.product_options import (
    ObjectOptions,
    ProductOptions,
    UncertaintyOptions,
    ZoneOptions,
)
from domainsam_urban.trend.trend_options import GroundOptions, SmoothingOptions, TrendOptions

NO_FIGURES: dict[str, Any] = {
    **dict.fromkeys(("reference", "reference_column", "reference_class", "spread", "level", "title")),
    **dict.fromkeys(("zones", "zone_name", "centre", "rings", "ring_polygons", "appear", "vanish")),
    "seed": 0,
    "smooth": False,
    "layers": False,
}
"""What stands for the options of figures where a command has none."""


def gather(given: dict[str, Any]) -> TrendOptions:
    """Options as click gives them, as one value."""
    figures = {**NO_FIGURES, **given}
    parts = ("box", "mask", "sam_embedding", "segformer_embedding")
    uncertainty = UncertaintyOptions(
        reference=figures["reference"],
        year_column=figures["reference_column"],
        class_column=figures["reference_class"],
        seed=figures["seed"],
        **_set(figures, "spread", "level"),
    )
    products = ProductOptions(
        zones=ZoneOptions(
            figures["zones"],
            figures["zone_name"],
            figures["centre"],
            figures["rings"],
            figures["ring_polygons"],
        ),
        uncertainty=uncertainty,
        objects=ObjectOptions(**_set(given, "min_area")),
        command=command_line(),
        **_set(figures, "title"),
    )
    return TrendOptions(
        out=given["out"],
        model=given["model"],
        foundation=given["foundation"],
        threshold=_threshold(given),
        masks=given["masks"],
        mask_class=given["mask_class"],
        asset=given["asset"],
        reference_year=given["reference_year"],
        align=given["align"],
        workers=given["workers"],
        classifier=given["classifier"],
        smoothing=SmoothingOptions(**_set(figures, "appear", "vanish")) if figures["smooth"] else None,
        ground=GroundOptions(given["crs"], given["pixel"], given["extent"]),
        products=products,
        read=ReadOptions(given["bands"], given["nodata"], given["resolution"], given["normalize"]),
        run=RunOptions(
            device=given["device"],
            precision=given["precision"],
            tile=given["tile"],
            overlap=given["overlap"],
            batch_size=given["batch_size"],
            method=given["method"],
            disabled=frozenset(part for part in parts if given[f"no_{part}"]),
        ),
        layers=figures["layers"],
        overwrite=given["overwrite"],
        resume=given["resume"],
        quiet=given["quiet"],
    )


def _threshold(given: dict[str, Any]) -> float:
    """The threshold that was given, else the model's; masks have the ordinary one."""
    if given["threshold"] is not None or given["masks"]:
        return float(given["threshold"] or ShapeOptions.threshold)
    from domainsam_urban.model import shape_settings

    return shape_settings(given["model"], {}).threshold


def _set(given: dict[str, Any], *names: str) -> dict[str, Any]:
    """Those options that were given; the rest keep the defaults of their dataclass."""
    return {name: given[name] for name in names if given[name] is not None}
