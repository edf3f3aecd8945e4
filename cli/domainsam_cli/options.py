"""Options that several commands share, so that one name means one thing everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from domainsam_cli.errors import RunState, speak_up

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


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
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Arithmetic of the networks; auto: bf16 where GPU or CPU is made for it (training: GPU), else fp32.",
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


def talk_options(command: Command) -> Command:
    """``--quiet``, ``--verbose`` and ``--json``: how much a command says, and how."""
    return quiet_option(verbose_option(json_option(command)))


def run_options(command: Command) -> Command:
    """What every training command takes beside its recipe; see :data:`RUN`."""
    machine = (device_option, devices_option, precision_option, workers_option)
    for option in reversed((*machine, seed_option, resume_option, overwrite_option, talk_options)):
        command = option(command)
    return command


RUN = ("out", "device", "devices", "precision", "workers", "seed", "resume", "overwrite", "quiet")
"""Names of :func:`run_options` and the model file, as ``domainsam.train.options.RunOptions`` has them."""


def compute_options(command: Command) -> Command:
    """``--device``, ``--precision``, ``--batch-size`` and ``--workers``."""
    return device_option(precision_option(batch_size_option(workers_option(command))))


def chosen(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Options that were given, under the recipe's names; ``names`` holds these by option."""
    return {name: given[option] for option, name in names.items() if given[option] is not None}


def free_folder(wanted: Path) -> Path:
    """``wanted``, or the same name with the first number that is not taken."""
    folder, number = wanted, 1
    while folder.exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


demo_folder_option = click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=lambda: free_folder(Path("domainsam-demo")),
    show_default="domainsam-demo, or the next free name",
    help="Folder for the sample and the results.",
)


def choose_device(name: str) -> str:
    """The device that ``--device`` means on this machine.

    Raises
    ------
    domainsam.errors.ConfigError
        If the name is unknown to torch, or its hardware is absent.
    """
    import torch

    from domainsam.errors import ConfigError

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name!r} is unknown: use auto, cpu, cuda, cuda:N or mps") from error
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise ConfigError(f"--device {name!r} is not available here: use --device cpu or auto")
    return name
