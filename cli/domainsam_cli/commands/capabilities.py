"""``domainsam capabilities``: what this installation can do, for programs that call it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from domainsam import __version__, errors
from domainsam.errors import DependencyError, PackError
from domainsam.packs import DomainPack, find_packs, load_pack
from domainsam_cli.console import echo
from domainsam_cli.options import json_option

CODE = 4
"""Width of an exit code's column in the table of :mod:`domainsam.errors`."""


@click.command()
@json_option
@click.pass_context
def capabilities(ctx: click.Context, as_json: bool) -> None:
    """Tell what this installation can do: packs, commands, options, formats, foundations, exit codes.

    With --json it is complete and meant for agents, plugins and scripts. All
    of it is read from the commands and tables themselves.
    """
    document = describe_installation(ctx.find_root())
    if as_json:
        echo(json.dumps(document, indent=2))
        return
    for line in lines(document):
        echo(line)


def describe_installation(root: click.Context) -> dict[str, Any]:
    """Everything about the installation as values that JSON can hold.

    Parameters
    ----------
    root
        Context of the group that holds all commands.
    """
    from domainsam.foundation import DEFAULT, FOUNDATIONS
    from domainsam.vocabularies import VOCABULARIES
    from domainsam.vocabulary import DEFAULT as DEFAULT_WORDS

    packs = {name: describe_pack(name) for name in find_packs()}
    group = root.command
    assert isinstance(group, click.Group)
    names = [name for name in group.list_commands(root) if name not in packs]
    return {
        "domainsam": __version__,
        "purpose": "research software; not a medical device",
        "network": ["weights fetch"],
        "packs": packs,
        "commands": dict(_command(group, name, root) for name in names),
        "foundations": {
            name: {"default": name == DEFAULT, "weights": _weights(name)}
            for name in FOUNDATIONS
            if name != "fake"
        },
        "vocabulary_models": {
            row.name: {"default": row.name == DEFAULT_WORDS, "can": list(row.can), "reads": row.reads}
            for row in VOCABULARIES.values()
            if row.name != "fake"
        },
        "exit_codes": exit_codes(),
    }


def _weights(name: str) -> str:
    """Where a foundation's weights come from: an address, or what stands for one."""
    from domainsam.foundations import FOUNDATIONS
    from domainsam.weights import KNOWN

    if FOUNDATIONS[name].folder:
        return "your own folder"
    return KNOWN[name].url or "your own file" if name in KNOWN else "included"


def describe_pack(name: str) -> dict[str, Any]:
    """One pack: its classes, formats and commands, or why it cannot be loaded."""
    try:
        pack = load_pack(name)
        group = pack.load("commands")
    except (PackError, DependencyError) as error:
        return {"error": str(error)}
    with click.Context(group, info_name=name) as context:
        commands = dict(_command(group, child, context) for child in group.list_commands(context))
    return {
        "summary": pack.summary,
        "labels": list(pack.labels),
        "formats": _formats(pack),
        "python": None if pack.run is None else f'domainsam.run("{name}", inputs, out, **options)',
        "commands": commands,
    }


def _formats(pack: DomainPack) -> dict[str, Any] | None:
    """Endings by kind; None where the pack does not say, or its extra is not installed."""
    try:
        found: dict[str, Any] | None = None if pack.formats is None else pack.load("formats")()
    except (DependencyError, ModuleNotFoundError):
        return None
    return found


def _command(group: click.Group, name: str, context: click.Context) -> tuple[str, dict[str, Any]]:
    command = group.get_command(context, name)
    assert command is not None
    facts: dict[str, Any] = {"help": command.get_short_help_str(limit=200)}
    with click.Context(command, info_name=name, parent=context) as own:
        if isinstance(command, click.Group):
            facts["commands"] = dict(_command(command, child, own) for child in command.list_commands(own))
        else:
            facts["arguments"] = [
                _argument(item) for item in command.params if isinstance(item, click.Argument)
            ]
            facts["options"] = [
                _option(item, own) for item in command.params if isinstance(item, click.Option)
            ]
    return name, facts


def _argument(parameter: click.Argument) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "required": parameter.required,
        "several": parameter.nargs != 1,
        "type": parameter.type.name,
    }


def _option(parameter: click.Option, context: click.Context) -> dict[str, Any]:
    default = parameter.get_default(context, call=False)
    facts: dict[str, Any] = {
        "name": parameter.name,
        "flags": [*parameter.opts, *parameter.secondary_opts],
        "type": "flag" if parameter.is_flag else parameter.type.name,
        "required": parameter.required,
        "several": parameter.multiple,
        "default": _plain(default),
        "help": parameter.help,
    }
    if isinstance(parameter.type, click.Choice):
        facts["choices"] = [str(choice) for choice in parameter.type.choices]
    if isinstance(parameter.type, click.IntRange | click.FloatRange):
        facts["least"], facts["most"] = parameter.type.min, parameter.type.max
    return facts


def _plain(value: Any) -> Any:
    """A default as JSON has it: what is computed when the command runs, or absent, is null."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool) else None


def exit_codes() -> dict[str, str]:
    """Meaning of every exit code, from the table that :mod:`domainsam.errors` documents."""
    rows = (line.split(None, 1) for line in (errors.__doc__ or "").splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2 and row[0].isdigit()}


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The same for a person, without the options."""
    yield f"domainsam {document['domainsam']}: {document['purpose']}"
    for name, pack in document["packs"].items():
        yield f"pack {name}: {pack.get('summary') or '(broken) ' + pack['error']}"
        if "error" not in pack:
            yield f"  commands  {', '.join(pack['commands'])}"
            for verb, key in (("reads", "inputs"), ("writes", "outputs")):
                for kind, endings in (pack["formats"] or {}).get(key, {}).items():
                    yield f"  {verb:<9} {kind}: {' '.join(endings)}"
    yield f"commands: {', '.join(document['commands'])}"
    yield f"foundations: {', '.join(document['foundations'])}"
    yield f"models of words: {', '.join(document['vocabulary_models'])}"
    yield "exit codes:"
    for code, meaning in document["exit_codes"].items():
        yield f"  {code:<{CODE}} {meaning}"
    yield "With --json: every option with its type, default and help."
