"""The ``domainsam`` command; subcommands are imported when they are called.

``domainsam --help`` reads each pack's summary from its entry point and imports
nothing else, so that it answers at once; ``benchmarks/startup.py`` shows it.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from domainsam import __version__
from domainsam.errors import DependencyError, PackError
from domainsam.packs import find_packs, load_pack
from domainsam_cli.lazy import BrokenCommand, LazyGroup

CORE_COMMANDS = {
    "capabilities": (
        "domainsam_cli.commands.capabilities:capabilities",
        "Tell programs what this installation can do.",
    ),
    "cluster": (
        "domainsam_cli.commands.cluster:cluster",
        "Spread a command over a batch system: plan, work, gather.",
    ),
    "demo": ("domainsam_cli.commands.demo:demo", "Run a pack's main job on a generated sample."),
    "distil": ("domainsam_cli.commands.distil:distil", "Teach a small foundation what a large one sees."),
    "export": ("domainsam_cli.commands.export:export", "Write a foundation for ONNX Runtime or OpenVINO."),
    "foundations": (
        "domainsam_cli.commands.foundations:foundations",
        "List the frozen generalists: cost, prompts, licence.",
    ),
    "info": ("domainsam_cli.commands.info:info", "Say what a file holds and what a pack would do with it."),
    "packs": ("domainsam_cli.commands.packs:packs", "List the installed domain packs."),
    "train-words": ("domainsam_cli.commands.train_words:train_words", "Teach a model words."),
    "weights": ("domainsam_cli.commands.weights:weights", "List, fetch and verify foundation weights."),
}
"""Commands that belong to no pack: where each is, and its line in the help."""


class PackGroup(LazyGroup):
    """Core commands, and one subcommand for every installed domain pack."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*list_pack_names(), *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in list_pack_names():
            return super().get_command(ctx, cmd_name)
        try:
            command: click.Command = load_pack(cmd_name).load("commands")
        except (PackError, DependencyError) as error:
            return BrokenCommand(cmd_name, error)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.write_section(
            formatter, "Domain packs", [(name, describe_pack(name)) for name in list_pack_names()]
        )
        super().format_commands(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(ctx)
        if not args[0].startswith("-") and args[0] not in names:
            ctx.fail(f"no pack or command is named {args[0]!r}; there are: {', '.join(names)}")
        return super().resolve_command(ctx, args)


def list_pack_names() -> list[str]:
    """Names of the installed packs; a core command wins over a pack of the same name."""
    return [name for name in find_packs() if name not in CORE_COMMANDS]


def describe_pack(name: str) -> str:
    """The pack's summary, or why it cannot be loaded."""
    try:
        return load_pack(name).summary
    except PackError as error:
        return f"(broken) {error}"


@click.group(
    cls=PackGroup,
    lazy=CORE_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="domainsam")
def cli() -> None:
    """Segment Anything in your own domain, offline, from one command.

    Start with `domainsam demo`. Every command explains itself with --help.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (see :mod:`domainsam.errors`)."""
    from domainsam_cli.errors import run_guarded

    return run_guarded(cli, arguments)
