"""``domainsam cluster``: spread a command over a batch system by plan, work and gather."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domainsam.errors import ConfigError
from domainsam_cli.console import echo, format_paths, tell_command
from domainsam_cli.errors import mark_resumable
from domainsam_cli.options import job_options, overwrite_option, talk_options

if TYPE_CHECKING:
    from domainsam.cluster.plan import ClusterPlan, Task
    from domainsam.cluster.work import Worked

FOLDER = click.Path(path_type=Path)
REST = "domainsam.cluster.rest"
"""Key under which the words behind ``--`` are kept."""

workers_option = click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Workers to reckon with."
)
price_option = click.option("--price", type=click.FloatRange(min=0), help="What an hour of a worker costs.")


class WrappingCommand(click.Command):
    """A command that keeps the words behind ``--`` apart from its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own, rest = args, None
        if "--" in args:
            at = args.index("--")
            own, rest = args[:at], args[at + 1 :]
        ctx.meta[REST] = rest
        return super().parse_args(ctx, own)


@click.group()
def cluster() -> None:
    r"""Spread `urban map` and `ct segment` over SLURM, Kubernetes or any batch system.

    `plan` lists the tasks of a command, one a scene or case; `work` does some,
    as often and wherever you like; `gather` refuses while any is missing. The
    folders of plan and outputs have to be seen by all. Numbers begin at 1.

    \b
    domainsam cluster plan -o plan/ -- urban map catalog.json -o out/ --mask out/
    domainsam cluster work plan/ --part 3/8
    domainsam cluster gather plan/
    """


@cluster.command(cls=WrappingCommand)
@click.argument("inputs", nargs=-1, metavar="[INPUT...] [-- PACK COMMAND ...]")
@click.option("-o", "--out", type=FOLDER, required=True, help="Folder of the plan, new.")
@click.option("--pack", default="urban", show_default=True, help="Whose job it is, where INPUTs are given.")
@click.option(
    "--try", "tried", type=click.IntRange(min=0), default=0, help="Do so many tasks to tell the time."
)
@workers_option
@price_option
@overwrite_option
@talk_options
@click.pass_context
def plan(
    ctx: click.Context,
    inputs: tuple[str, ...],
    out: Path,
    pack: str,
    tried: int,
    workers: int,
    price: float | None,
    overwrite: bool,
    as_json: bool,
    verbose: bool,
    quiet: bool,
) -> None:
    r"""List the tasks of a command, and say what they will take.

    Put the plain command behind `--`. With INPUTs before it, only the options
    of the pack's command stand there, and results go to PLAN/out unless -o
    says otherwise.

    \b
    domainsam cluster plan -o plan/ -- urban map catalog.json -o out/ --date 2021
    domainsam cluster plan -o plan/ --try 2 --workers 32 -- ct segment cohort.csv -o out/
    domainsam cluster plan catalog.json -o plan/ --workers 32 --price 0.4
    """
    from domainsam.cluster.estimate import estimate
    from domainsam.cluster.plan import write_plan
    from domainsam.cluster.work import do_tasks

    words = find_words(inputs, ctx.meta[REST], pack, out)
    name, given, options = parse_command(words)
    made = write_plan(out, name, given, options, tell_command(words), overwrite=overwrite)
    if tried:
        do_tasks(made, spread_over_sizes(made.tasks, tried))
    told = estimate(made, workers, price)
    if as_json:
        echo(json.dumps({"plan": str(out), **told.document()}, indent=2))
    elif not quiet:
        for line in told.lines():
            echo(line)
        echo(f"plan in {out}: 'domainsam cluster work {out} --part 1/{workers}' and the like, then gather")


@cluster.command()
@click.argument("folder", metavar="PLAN", type=FOLDER)
@click.option("--task", type=int, help="Do this one task, numbered from 1.")
@click.option("--part", metavar="I/N", help="Do every N-th task from the I-th on; parts 1/N to N/N are all.")
@talk_options
@click.pass_context
def work(
    ctx: click.Context,
    folder: Path,
    task: int | None,
    part: str | None,
    as_json: bool,
    verbose: bool,
    quiet: bool,
) -> None:
    r"""Do tasks of PLAN: one, a part of them, or all; what is done is passed over.

    Killed or called twice, it goes on where it was. Exit code 1 if a task
    failed or another process is at it.

    \b
    domainsam cluster work plan/ --task 17
    domainsam cluster work plan/ --part $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT
    """
    from domainsam.cluster.plan import choose_tasks
    from domainsam.cluster.work import do_tasks

    mark_resumable(ctx)
    opened = open_plan(folder)

    def tell(worked: Worked) -> None:
        if not as_json and (worked.state == "failed" or not quiet):
            echo(worked.sentence(), err=worked.state == "failed")

    answers = do_tasks(opened, choose_tasks(opened, task, part), tell)
    if as_json:
        echo(json.dumps([answer.document() for answer in answers], indent=2))
    if any(answer.state in ("failed", "taken") for answer in answers):
        ctx.exit(1)


@cluster.command()
@click.argument("folder", metavar="PLAN", type=FOLDER)
@workers_option
@price_option
@talk_options
def status(
    folder: Path, workers: int, price: float | None, as_json: bool, verbose: bool, quiet: bool
) -> None:
    """Say how much of PLAN is done, and what the rest will take."""
    from domainsam.cluster.estimate import estimate

    told = estimate(open_plan(folder), workers, price)
    if as_json:
        echo(json.dumps(told.document(), indent=2))
    elif not quiet:
        for line in told.lines():
            echo(line)


@cluster.command()
@click.argument("folder", metavar="PLAN", type=FOLDER)
@click.option("-o", "--out", type=FOLDER, help="Copy all files into this folder [default: they stay].")
@click.option("--verify", is_flag=True, help="Compare the digest of every file, not its size alone.")
@click.option("--leave-out", is_flag=True, help="Leave out tasks that are not done, and name them.")
@overwrite_option
@talk_options
@click.pass_context
def gather(
    ctx: click.Context,
    folder: Path,
    out: Path | None,
    verify: bool,
    leave_out: bool,
    overwrite: bool,
    as_json: bool,
    verbose: bool,
    quiet: bool,
) -> None:
    """Check that all of PLAN is done, and write the files about all of it.

    Tasks that are missing are named, with exit code 1. Files of tasks are where
    the plain command puts them, byte for byte what it writes.
    """
    from domainsam.cluster.gather import gather as gather_tasks

    found = gather_tasks(open_plan(folder), out, verify=verify, leave_out=leave_out, overwrite=overwrite)
    if as_json:
        echo(json.dumps(found.document(), indent=2))
    elif not quiet:
        echo(f"{found.tasks} tasks, {found.files} files, {found.bytes / 1e6:.1f} MB: complete")
        for line in format_paths(found.paths):
            echo(line)
    for name, reason in found.left_out:
        echo(f"domainsam: left out {name}: {reason}", err=True)
    if found.left_out:
        ctx.exit(1)


def open_plan(folder: Path) -> ClusterPlan:
    """The plan in a folder, wherever its work will be done."""
    from domainsam.cluster.plan import read_plan

    return read_plan(folder.absolute())


def find_words(inputs: Sequence[str], rest: Sequence[str] | None, pack: str, out: Path) -> list[str]:
    """The plain command that is planned: behind ``--``, or of inputs and the options there.

    Raises
    ------
    ConfigError
        If nothing says what to plan.
    """
    from domainsam.cluster.plan import load_job

    if not inputs:
        if not rest:
            raise ConfigError(
                "nothing to plan: put the plain command behind --, such as 'domainsam cluster plan -o plan/ "
                "-- urban map catalog.json -o out/'"
            )
        return list(rest)
    words = [pack, load_job(pack).command, *inputs, *(rest or ())]
    named = any(word in ("-o", "--out") or word.startswith("--out=") for word in rest or ())
    return words if named else [*words, "-o", str(out / "out")]


def parse_command(words: Sequence[str]) -> tuple[str, list[str], dict[str, Any]]:
    """Pack, inputs and options by keyword of a plain command.

    Raises
    ------
    ConfigError
        If it is none whose inputs can be spread.
    click.UsageError
        If an option is wrong.
    """
    from domainsam.cluster.plan import load_job
    from domainsam.packs import find_packs, load_pack

    words = list(words[1:] if words[0] == "domainsam" else words)
    if len(words) < 2 or words[0] not in find_packs():
        raise ConfigError(
            f"'{' '.join(words)[:80]}' is no command of a pack: expected one such as "
            "urban map catalog.json -o out/"
        )
    name, command = words[:2]
    job = load_job(name)
    if command != job.command:
        raise ConfigError(f"'{name} {command}' cannot be spread; '{name} {job.command}' can")
    group: click.Group = load_pack(name).load("commands")
    parent = click.Context(group, info_name=name)
    found = group.get_command(parent, command)
    assert found is not None
    given = dict(found.make_context(command, words[2:], parent=parent).params)
    inputs = [str(item) for item in given.pop("inputs")]
    return name, inputs, job_options(given)


def spread_over_sizes(tasks: Sequence[Task], count: int) -> list[Task]:
    """So many tasks from the smallest to the greatest, at even ranks: they tell how time goes with size."""
    ranked = sorted(tasks, key=lambda task: task.size.elements)
    last = len(ranked) - 1
    if count == 1:
        return ranked[last // 2 : last // 2 + 1]
    ranks = {round(last * number / (count - 1)) for number in range(count)}
    return [ranked[rank] for rank in sorted(ranks)]
