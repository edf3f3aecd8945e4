"""Command groups that import a subcommand only when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from domainsam.errors import DomainSamError

Lazy = Mapping[str, tuple[str, str]]
"""Command name to ``("module:attribute", help line)``."""


class LazyGroup(click.Group):
    """A group whose help needs none of its subcommands' modules."""

    def __init__(self, *args: Any, lazy: Lazy | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.write_section(formatter, "Commands", [(name, line) for name, (_, line) in self.lazy.items()])

    @staticmethod
    def write_section(formatter: click.HelpFormatter, title: str, rows: list[tuple[str, str]]) -> None:
        """One titled list of names and lines, nothing where it would be empty."""
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


class BrokenCommand(click.Command):
    """Stands in for a command that cannot be loaded: listed with its reason, refuses to run."""

    def __init__(self, name: str, error: DomainSamError) -> None:
        super().__init__(name, help=str(error), add_help_option=False)
        self.error = error
        self.ignore_unknown_options = True
        self.allow_extra_args = True

    def invoke(self, ctx: click.Context) -> None:
        raise self.error
