"""``domainsam urban sample``: draw the reference sample for an estimate of area or change."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam_cli.console import get_command_line, print_result
from domainsam_cli.options import (
    WHOLE_NUMBERS,
    Separated,
    bundle,
    collect_given,
    out_option,
    overwrite_option,
    seed_option,
    talk_options,
)
from domainsam_urban.commands.map import threshold_option

if TYPE_CHECKING:
    from domainsam_urban.sample.result import Sample
    from domainsam_urban.sample.settings import SampleOptions


class Share(click.ParamType[float]):
    """A share as per cent or as a number below 1; ``95`` alone is per cent where no share can be meant."""

    name = "SHARE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        number = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(%?)", text)
        if number is None:
            self.fail(f"{value!r} is no share such as 5% or 0.05", param, ctx)
        share = float(number[1])
        if number[2] or share >= 50:
            return share / 100
        if share > 1:
            self.fail(f"{value!r} may be {share:g}% or {share:g} times: write {share:g}%", param, ctx)
        return share


class Metres(click.ParamType[float]):
    """A length in metres, with or without its unit."""

    name = "METRES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        number = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(m|km)?", str(value).strip())
        if number is None:
            self.fail(f"{value!r} is no length such as 30m", param, ctx)
        return float(number[1]) * (1000 if number[2] == "km" else 1)


class Expectation(click.ParamType[tuple[str, float]]):
    """A stratum and a share: ``settlement=90%``."""

    name = "STRATUM=SHARE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        if isinstance(value, tuple):
            return value
        name, equals, share = str(value).partition("=")
        if not equals:
            self.fail(f"{value!r} is no expectation such as settlement=90%", param, ctx)
        return name.strip(), Share().convert(share, param, ctx)


LABELS = Separated(str, "a list of years", "2016,2020", "YEAR,YEAR")
size_options = bundle(
    click.option(
        "--expect",
        type=Expectation(),
        multiple=True,
        help="Share of a stratum expected to be truly so; of other and buffer, to be settlement. Repeatable.",
    ),
    click.option("--buffer", type=Metres(), help="Width of the stratum round the settlement [default: 30m]."),
    click.option(
        "--min-per-stratum", type=click.IntRange(min=2), help="Least points in a stratum [default: 50]."
    ),
    click.option("--points", type=click.IntRange(min=2), help="So many points, in place of a target error."),
    click.option("--confidence", type=Share(), help="Share of intervals that hold the truth [default: 95%]."),
    click.option("--of", type=click.Choice(["area", "change"]), help="What the error is of [default: area]."),
    click.option(
        "--target-error",
        type=Share(),
        help="Half width of the interval that is wanted, as a share of the estimate [default: 5%].",
    ),
)
"""Options that say how many points there are and where."""


@click.command("sample")
@click.argument("inputs", nargs=-1, required=True, metavar="MAP...")
@out_option("File of points: .gpkg, .geojson or .csv; with --scene the form goes beside it, as .html.")
@size_options
@click.option("--years", type=LABELS, help="Take these years of the maps only.")
@click.option("--scene", multiple=True, metavar="YEAR=FILE", help="Picture for the form. Repeatable.")
@click.option("--form", type=click.Path(path_type=Path), help="Where the form goes.")
@click.option("--mask-class", type=WHOLE_NUMBERS, help="Values of mask rasters that are settlement.")
@threshold_option
@seed_option
@overwrite_option
@talk_options
def sample(inputs: tuple[str, ...], **given: Any) -> None:
    """Draw the reference points that a sound estimate of area or change needs.

    MAP is a mask or probability raster, or polygons, as YEAR=FILE or with its
    date in its name; or a folder of them, also what urban trend --layers wrote.
    One map is for an area, several are for change too. Points are drawn at
    random within strata of what the maps show and a buffer round it. A person
    fills the column of each year with 1 (settlement) or 0, in the form or
    elsewhere, and urban trend --reference takes the file.

    \b
    domainsam urban sample trend/ -o sample.gpkg --target-error 5% --scene 2016=a.tif --scene 2020=b.tif
    domainsam urban sample 2016=m16.tif 2020=m20.tif -o sample.gpkg --of change --target-error 20%
    domainsam urban trend --masks 2016=m16.tif 2020=m20.tif -o trend/ --reference sample_labelled.csv
    """  # noqa: D301 - click takes a real backspace for "do not wrap"
    from domainsam_urban.sample.sample import draw_sample

    options = gather(given)
    result = draw_sample(inputs, options)
    print_result(given, lambda: make_document(result, options), summarise(result, options), result.notes)


def gather(given: dict[str, Any]) -> SampleOptions:
    """Options as click gives them, as one value; what was not given keeps its default."""
    from domainsam_urban.sample.settings import SampleOptions

    same = (
        *("target_error", "confidence", "of", "points", "min_per_stratum", "years", "form", "mask_class"),
        *("threshold", "seed", "overwrite", "quiet"),
    )
    return SampleOptions(
        out=given["out"],
        expected=dict(given["expect"]),
        scenes=tuple(given["scene"]),
        command=get_command_line(),
        **collect_given(given, {"buffer": "buffer_m", **{name: name for name in same}}),
    )


def make_document(result: Sample, options: SampleOptions) -> dict[str, Any]:
    """The result as values that JSON can hold."""
    return {
        "years": list(result.labels),
        "points": len(result.points),
        "of": options.of,
        "target_error": None if options.points is not None else options.target_error,
        "expected_error": dict(result.allocation.errors),
        "confidence": options.confidence,
        "cochran_points": result.allocation.cochran,
        "strata": [
            {"name": name, "area_ha": area, "points": points, "weight_ha": weight}
            for name, area, points, weight in _strata(result)
        ],
        "seed": options.seed,
        "warnings": list(result.notes),
        "files": list(result.files),
    }


def _strata(result: Sample) -> Iterator[tuple[str, float, int, float]]:
    from domainsam_urban.sample.strata import NAMES

    columns = zip(NAMES, result.area_ha, result.allocation.points, result.weights(), strict=True)
    for name, area, points, weight in columns:
        if points:
            yield name, float(area), int(points), float(weight)


def summarise(result: Sample, options: SampleOptions) -> Iterator[str]:
    """Strata, points and what to do next, for a person."""
    yield f"{len(result.points)} points for the {options.of} of {', '.join(result.labels)}"
    yield f"  {'stratum':<12}{'ha':>12}{'points':>9}{'ha a point':>13}"
    for name, area, points, weight in _strata(result):
        yield f"  {name:<12}{area:>12.2f}{points:>9}{weight:>13.4f}"
    for name, error in result.allocation.errors.items():
        yield (
            f"  {name}: {options.confidence:.0%} interval of about ±{error:.1%} expected, if the maps are as "
            "good as is supposed (--expect)"
        )
    for file in result.files:
        yield f"  {file}"
    if len(result.files) > 1:
        yield f"  next: open {result.files[-1]}, label the points, save the file"
    else:
        yield f"  next: fill the columns {', '.join(result.labels)} with 1 or 0"
    if len(result.labels) > 1:
        yield f"  then: {_next_command(result)}"


def _next_command(result: Sample) -> str:
    labelled = Path(result.files[0])
    file = labelled.with_name(f"{labelled.stem}_labelled.csv") if len(result.files) > 1 else labelled
    return f"domainsam urban trend --masks MAP... -o trend/ --reference {shlex.quote(str(file))}"
