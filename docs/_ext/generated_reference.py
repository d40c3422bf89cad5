"""Write the pages of the reference that are made from the code: commands, settings, exit codes, diagnostics, layers.

Each function returns Markdown (MyST); :func:`write` puts all of them into ``_generated``, from where pages include
them. Nothing made here is committed, so nothing can be out of date.
"""

from __future__ import annotations

import re
import tomllib
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent.parent
GENERATED = DOCS / "_generated"

COMMANDS = {
    "packtivity": "packtivity.cli.declarations:main",
    "packtivity-run": "packtivity.cli.declarations:runcli",
    "packtivity-validate": "packtivity.cli.declarations:validatecli",
    "packtivity-checkproxy": "packtivity.cli.declarations:checkproxy",
    "packtivity-util": "packtivity.cli.declarations:utilcli",
    "packtivity-worker": "packtivity.cli.declarations:worker",
}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *([_escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(cell: str) -> str:
    """Return text as it stands in a cell, where a backslash is one outside code only."""
    parts = cell.split("`")
    parts[::2] = [part.replace("\\", "\\\\") for part in parts[::2]]
    return "`".join(parts).replace("|", "\\|")


def settings() -> str:
    """Return the table of settings: variable, default, what it does."""
    from packtivity.settings import SETTINGS

    return table(
        ["Variable", "Default", "What it does"],
        ([f"`{setting.variable}`", _default(setting.default), setting.help] for setting in SETTINGS),
    )


def _default(value: Any) -> str:
    if value is None or value in ("", ()):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{', '.join(value) if isinstance(value, tuple) else value}`"


def exit_codes() -> str:
    """Return the table of exit codes."""
    from packtivity.cli.errors import exit_codes

    rows = ([str(code), f"`{name}`", re.sub(r":\w+:`", "`", when)] for code, name, when in exit_codes())
    return table(["Code", "Name", "When"], rows)


def diagnostics() -> str:
    """Return the table of diagnostic codes."""
    from packtivity.spec.diagnostics import CODES

    return table(
        ["Code", "Severity", "What it means", "What to do"],
        ([f"`{name}`", code.severity, code.meaning, code.remedy] for name, code in CODES.items()),
    )


def layers() -> str:
    """Return the layers that import-linter holds the modules to, the highest first."""
    pyproject = tomllib.loads((DOCS.parent / "pyproject.toml").read_text("utf-8"))
    contracts = pyproject["tool"]["importlinter"]["contracts"]
    found = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return "\n".join(f"{number}. `{layer}`" for number, layer in enumerate(found, start=1))


# --- commands --------------------------------------------------------------------------------------------------


def load(reference: str) -> click.Command:
    """Import ``module:attribute``."""
    from importlib import import_module

    module, _, attribute = reference.partition(":")
    found = getattr(import_module(module), attribute)
    assert isinstance(found, click.Command)
    return found


def walk(name: str, command: click.Command, parent: click.Context | None = None) -> Iterator[click.Context]:
    """Yield a context for a command and for everything below it."""
    context = click.Context(command, info_name=name, parent=parent, terminal_width=100)
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from walk(below, found, context)


def commands() -> str:
    """Return a section for each command."""
    described: dict[int, str] = {}
    sections = []
    for name, reference in COMMANDS.items():
        for context in walk(name, load(reference)):
            path = context.command_path
            known = described.get(id(context.command))
            described.setdefault(id(context.command), path)
            sections.append(f"## {path}\n\n" + (_same(path, known) if known else _command(context)))
    return "\n\n".join(sections)


def _same(path: str, known: str) -> str:
    return f"`{path}` is the same command as [`{known}`](#{known.replace(' ', '-')})."


def _command(context: click.Context) -> str:
    usage = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
    parts = [f"```text\n{usage}\n```", _prose(context.command.help or "")]
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            parts.append(f"`{record[0]}`\n: {_escape(record[1])}")
    if isinstance(context.command, click.Group):
        parts += [f"- [`{context.command_path} {name}`](#{_anchor(context, name)})" for name in _below(context)]
    return "\n\n".join(parts)


def _below(context: click.Context) -> list[str]:
    assert isinstance(context.command, click.Group)
    return context.command.list_commands(context)


def _anchor(context: click.Context, name: str) -> str:
    return f"{context.command_path} {name}".replace(" ", "-")


def _prose(text: str) -> str:
    """Return a help text as Markdown; what click is told not to wrap (``\\b``) becomes a literal block."""
    paragraphs = []
    for paragraph in cleandoc(text).split("\n\n"):
        first, _, rest = paragraph.partition("\n")
        paragraphs.append(f"```text\n{rest}\n```" if first.strip() == "\b" else _escape(paragraph))
    return "\n\n".join(paragraphs)


def _escape(text: str) -> str:
    return "".join(f"\\{character}" if character in "*_<>[]$" else character for character in text)


# --- pages -----------------------------------------------------------------------------------------------------

PAGES = {
    "commands.md": commands,
    "settings.md": settings,
    "exit-codes.md": exit_codes,
    "diagnostics.md": diagnostics,
    "layers.md": layers,
}


def write(_application: object = None) -> None:
    """Write all pages."""
    GENERATED.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        (GENERATED / name).write_text(make() + "\n", encoding="utf-8")


def setup(application: Sphinx) -> dict[str, Any]:
    """Write the pages before Sphinx reads any."""
    application.connect("builder-inited", write)
    return {"parallel_read_safe": True}
