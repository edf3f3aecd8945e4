"""Command line options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from domainsam.keywords import PRECISIONS, RUNTIMES
from domainsam.limits import get_limits, parse_size, set_limits
from domainsam_cli.errors import RunState, speak_up

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


def bundle(*options: Decorator[Any]) -> Decorator[Any]:
    """One decorator for several options; in the help the last one stands first."""

    def decorate(command: Command) -> Command:
        for option in options:
            command = option(command)
        return command

    return decorate


def out_option(help: str, multiple: bool = False, required: bool = True) -> Decorator[Any]:
    """``-o/--out PATH``; several of them where ``multiple``."""
    return click.option(
        "-o", "--out", type=click.Path(path_type=Path), multiple=multiple, required=required, help=help
    )


def _on_verbose(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    state = ctx.find_object(RunState)
    if value and state is not None:
        state.verbose = True
        speak_up()
    return value


def _on_limit(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Set a limit of the process; what is not given stays as it is."""
    if value:
        limit: Any = parse_size(value) if parameter.name == "memory" else value
        set_limits(replace(get_limits(), **{str(parameter.name): limit}))
    return value


limit_options = bundle(
    click.option(
        "--reproducible",
        is_flag=True,
        expose_value=False,
        callback=_on_limit,
        help="Leave out of outputs what differs from run to run: seconds, memory, dates.",
    ),
    click.option(
        "--allow-network",
        "network",
        is_flag=True,
        expose_value=False,
        callback=_on_limit,
        help="Let files name addresses that are then opened; else only those you type are.",
    ),
    click.option(
        "--max-memory",
        "memory",
        metavar="SIZE",
        expose_value=False,
        callback=_on_limit,
        help="Refuse files whose content takes more, such as 8G [default: half the machine's].",
    ),
)
"""Options that hold for the process, see :mod:`domainsam.limits`; no command is handed them."""


overwrite_option = click.option("-f", "--overwrite", is_flag=True, help="Replace outputs that exist.")
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="cpu, cuda, cuda:1, mps; auto takes a GPU if there is one.",
)
devices_option = click.option(
    "--devices", type=click.IntRange(min=1), default=1, help="So many devices of that kind."
)
precision_option = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    show_default=True,
    help="Arithmetic of the networks; auto: bf16 where it is the faster (training: on GPUs), else fp32.",
)
runtime_option = click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    default="torch",
    show_default=True,
    help="Who computes the foundation; onnx and openvino (extras of that name) export it on first use.",
)
batch_size_option = click.option(
    "--batch-size", type=click.IntRange(min=1), default=4, show_default=True, help="Tiles computed together."
)
workers_option = click.option(
    "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Threads that read ahead."
)
resume_option = click.option("--resume", is_flag=True, help="Go on with a run that was interrupted.")
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress, no summary; only errors.")
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, callback=_on_verbose, help="Library warnings, and a trace with an error."
)


def mark_options(command: Command) -> Command:
    """Options that say where objects are, instead of a trained model; see :mod:`domainsam.io.marks`."""
    path = click.Path(path_type=Path)
    for option in (
        click.option(
            "--marks-frame",
            metavar="FRAME",
            help="Frame of the marks' coordinates: pixel, world, voxel, RAS, LPS [default: the file's].",
        ),
        click.option("--boxes", type=path, help="Objects as boxes: .gpkg .geojson .csv .json; no model."),
        click.option(
            "--points",
            type=path,
            help="Objects as points, or polygons as rough masks: .gpkg .geojson .csv .json; no model.",
        ),
    ):
        command = option(command)
    return command


talk_options = bundle(json_option, verbose_option, quiet_option, limit_options)
"""``--quiet``, ``--verbose`` and ``--json``, and with them :data:`limit_options`."""


def run_options(command: Command) -> Command:
    """What every training command takes beside its recipe; see :data:`RUN`."""
    machine = (device_option, devices_option, precision_option, workers_option)
    for option in reversed((*machine, seed_option, resume_option, overwrite_option, talk_options)):
        command = option(command)
    return command


RUN = ("out", "device", "devices", "precision", "workers", "seed", "resume", "overwrite", "quiet")
"""Names of :func:`run_options` and the model file, as ``domainsam.train.start.RunOptions`` has them."""


def compute_options(command: Command) -> Command:
    """``--device``, ``--precision``, ``--batch-size`` and ``--workers``."""
    return device_option(precision_option(batch_size_option(workers_option(command))))


def collect_given(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Collect the options that were given, under the recipe's names; ``names`` holds these by option."""
    return {name: given[option] for option, name in names.items() if given[option] is not None}


def job_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """A command's options without those that say how much it prints beside ``--quiet``."""
    return {name: value for name, value in given.items() if name not in ("as_json", "verbose")}


def find_free_folder(wanted: Path) -> Path:
    """``wanted``, or the same name with the first number that is not taken."""
    folder, number = wanted, 1
    while folder.exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


worker_options = bundle(
    click.option(
        "--metrics",
        type=click.Path(path_type=Path),
        help="Keep the run's figures in this .prom file, for the node exporter of Prometheus.",
    ),
    click.option(
        "--log",
        type=click.Path(path_type=Path),
        help="Add a line of JSON here for whatever becomes of an input.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(min=0),
        default=2,
        show_default=True,
        help="Tries more of an input on workers, after failures that bad input does not explain.",
    ),
    click.option("--memory-per-task", metavar="SIZE", help="MEMORY that a worker declares, such as 4G."),
    click.option(
        "--gpus-per-task",
        type=click.FloatRange(min=0),
        default=0.0,
        show_default=True,
        help="GPU that a worker declares.",
    ),
    click.option(
        "--scheduler",
        help="Spread the inputs: local:4 over processes of this machine, tcp://HOST:8786 over Dask's workers "
        "[default: one after another, here].",
    ),
)
"""Options that say who does the inputs, all of which are needed; see :mod:`domainsam.infer.spread`."""
spread_options = bundle(
    click.option(
        "--max-failures", type=click.IntRange(min=0), help="Stop once more inputs failed [default: go on]."
    ),
    worker_options,
)
"""The same where the others go on without one that failed."""


demo_folder_option = click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=lambda: find_free_folder(Path("domainsam-demo")),
    show_default="domainsam-demo, or the next free name",
    help="Folder for the sample and the results.",
)


class Separated(click.ParamType[tuple[Any, ...]]):
    """Parts with commas between them, as a tuple.

    Parameters
    ----------
    kind
        Makes a part from its text, or raises ValueError: ``int``, ``float`` or ``str``.
    form
        What is expected, in words, for the message about something else.
    example
        A right value.
    metavar
        What the help shows in place of a value.
    count
        Exactly so many parts, where it is given.
    """

    def __init__(
        self, kind: Callable[[str], Any], form: str, example: str, metavar: str, count: int | None = None
    ) -> None:
        self.kind, self.form, self.example, self.name, self.count = kind, form, example, metavar, count

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        wrong = not all(parts) or (self.count is not None and len(parts) != self.count)
        try:
            if not wrong:
                return tuple(self.kind(part) for part in parts)
        except ValueError:
            pass
        self.fail(f"{value!r} is not {self.form} such as {self.example}", param, ctx)


WHOLE_NUMBERS = Separated(int, "a list of whole numbers", "3,2,1", "N,N,N")
NAMES = Separated(str, "a list of names", "liver,spleen", "NAME,NAME")
