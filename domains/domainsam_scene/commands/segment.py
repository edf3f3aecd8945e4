"""``domainsam scene segment``: segment scenes, folders, or stacks of rasters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam.errors import ConfigError
from domainsam.keywords import keyword_names
from domainsam_cli.console import echo, format_paths, get_command_line, print_result
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import (
    bundle,
    device_option,
    mark_options,
    out_option,
    overwrite_option,
    precision_option,
    resume_option,
    runtime_option,
    talk_options,
)
from domainsam_scene.run import segment_inputs, segment_options
from domainsam_scene.settings import SENSORS

if TYPE_CHECKING:
    from domainsam_scene.job import Batch

PATH = click.Path(path_type=Path)
LAYOUT_NAMES = ("plain", "deliver", "mcubes", "muses")


def sensor_options(command: Any) -> Any:
    """One option for each common sensor, and one for any other."""
    command = click.option(
        "--modality",
        multiple=True,
        metavar="NAME=FILE",
        help="Any other sensor.",
    )(command)
    for name in reversed(SENSORS):
        command = click.option(f"--{name}", type=PATH, help=f"Image of sensor {name}.")(command)
    return command


folder_options = bundle(
    click.option("--modalities", help="Sensors to use, with commas [default: all that the model knows]."),
    click.option(
        "--bands",
        multiple=True,
        metavar="NAME=N,N,N",
        help="Up to three bands of a sensor (--geotiff) [default: the first three].",
    ),
    click.option("--geotiff", is_flag=True, help="INPUT are georeferenced rasters, NAME=FILE."),
    click.option("--split", help="Part of the data, such as val."),
    click.option(
        "--layout", type=click.Choice(LAYOUT_NAMES), help="INPUT is a folder that is laid out like this."
    ),
)
"""Options for folders and stacks of rasters."""


reading_options = bundle(
    click.option("--strict", is_flag=True, help="Refuse a scene that lacks a sensor."),
    click.option("--align", is_flag=True, help="Undo shifts between sensors, if beyond doubt."),
    click.option("--dilate", type=click.IntRange(1, 9), help="Side of an event's square (muses)."),
    click.option(
        "--range",
        multiple=True,
        metavar="NAME=LOW,HIGH",
        help="Values of a sensor that become 0 and 1. Repeat for several.",
    ),
)
"""Options that say how to read sensors."""


output_options = bundle(
    click.option("--summary", type=PATH, help="Summary as JSON."),
    click.option("--preview", type=PATH, help="Picture of sensors, map and confidence, PNG."),
    click.option("--contribution", type=PATH, help="Each sensor's share in the answer, .npz or .tif."),
    click.option("--confidence", type=PATH, help="How sure the answer is, .png or .tif."),
    click.option("--probability", type=PATH, help="Probabilities: .npz, or .tif with --geotiff."),
    out_option("Map of classes, .png or .tif, or a folder."),
)
"""Options that name outputs."""


model_options = bundle(
    click.option("--overlap", type=click.IntRange(min=0), help="Overlap of tiles in pixels (--geotiff)."),
    click.option("--tile", type=click.IntRange(min=32), help="Side of a tile in pixels (--geotiff)."),
    click.option("--foundation", help="Name or checkpoint file [default: the one the model was trained on]."),
    click.option("--model", type=PATH, help="Model file [default: the one inside the package]."),
)
"""Options that choose the network."""


@click.command("segment")
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@output_options
@sensor_options
@folder_options
@reading_options
@mark_options
@model_options
@device_option
@precision_option
@runtime_option
@resume_option
@overwrite_option
@talk_options
@click.pass_context
def segment_command(ctx: click.Context, /, inputs: tuple[str, ...], **given: Any) -> None:
    """Make one map of classes from all sensors that saw a scene.

    Sensors may differ in size, and any of them may be left out or fail.
    In any output path {stem} stands for the scene's name.

    \b
    domainsam scene segment --rgb a.png --depth a_d.png --event a_e.png -o map.png
    domainsam scene segment --rgb a.png --depth a_d.png -o map.png --probability p.npz --preview v.png
    domainsam scene segment --layout deliver /data/DELIVER --split val -o out/ --resume
    domainsam scene segment --geotiff optical=o.tif sar=s.tif dem=d.tif -o landcover.tif
    domainsam scene segment --rgb a.png -o map.png --boxes boxes.json
    """  # noqa: D301 - click needs the control character itself
    mark_resumable(ctx)
    batch = run(inputs, given)
    print_result(given, batch.document, summarise_run(batch, told=given["layout"] is not None))
    if batch.failures:
        total = len(batch.results) + len(batch.failures) + len(batch.complete)
        echo(f"domainsam: {len(batch.failures)} of {total} samples failed", err=True)
        ctx.exit(batch.exit_code)


def run(inputs: tuple[str, ...], given: dict[str, Any]) -> Batch:
    """Call what the options ask for: one scene, a folder, or a stack of rasters."""
    files = name_files(given)
    layout, geotiff = given["layout"], given["geotiff"]
    if sum([layout is not None, geotiff, bool(files)]) > 1:
        raise ConfigError("give one of: sensors' files (--rgb a.png ...), --layout with a folder, --geotiff")
    told = keyword_names(segment_options)
    options = {name: value for name, value in given.items() if name in told}
    settings = segment_options(**options, made_by=get_command_line())
    if layout is not None:
        if len(inputs) != 1:
            raise ConfigError(f"--layout needs one folder, {len(inputs)} were given")
        silent = given["quiet"] or given["as_json"]
        watch = None if silent else lambda result: echo(result.sentence())
        return segment_inputs(inputs[0], settings, layout=layout, split=given["split"], watch=watch)
    if geotiff:
        pairs = [split_pair(text, "--geotiff") for text in inputs]
        if len(dict(pairs)) < len(pairs):
            raise ConfigError("--geotiff: a sensor is given twice; give each name once")
        bands = dict(map(parse_bands, given["bands"]))
        return segment_inputs(dict(pairs), settings, geotiff=True, bands=bands)
    if inputs:
        raise ConfigError(f"what is {inputs[0]!r}? name its sensor, for example --rgb {inputs[0]}")
    return segment_inputs(files, settings)


def name_files(given: dict[str, Any]) -> dict[str, Path]:
    """Files of one scene by sensor, in the order of the options."""
    files = {name: given[name] for name in SENSORS if given[name] is not None}
    for text in given["modality"]:
        name, path = split_pair(text, "--modality")
        if name in files:
            raise ConfigError(f"sensor {name} is given twice")
        files[name] = Path(path)
    return files


def split_pair(text: str, option: str) -> tuple[str, str]:
    """``NAME=FILE`` in its two parts."""
    name, equals, path = text.partition("=")
    if not (name.strip() and equals and path):
        raise ConfigError(f"{option} {text!r} is not of the form NAME=FILE, such as thermal=a.png")
    return name.strip(), path


def parse_bands(text: str) -> tuple[str, tuple[int, ...]]:
    """``optical=4,3,2`` as a sensor and its band numbers."""
    name, numbers = split_pair(text, "--bands")
    try:
        return name, tuple(int(number) for number in numbers.split(","))
    except ValueError as error:
        raise ConfigError(f"--bands {text!r} is not of the form optical=4,3,2") from error


def summarise_run(batch: Batch, told: bool) -> Iterator[str]:
    """What was found and where it is, for a person, unless that was ``told`` as each sample was done."""
    for result in () if told else batch.results:
        yield result.sentence()
        yield from format_paths(result.paths)
    if batch.complete:
        yield f"{len(batch.complete)} complete already"
