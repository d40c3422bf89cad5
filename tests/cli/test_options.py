"""Options: all there, each explained, meaning what they mean in 0.17.1."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from packtivity.cli import checkproxy, runcli, utilcli, validatecli
from packtivity.cli.command import Command, seconds
from packtivity.cli.declarations import main

if TYPE_CHECKING:
    from collections.abc import Iterator


def tree(command: click.Command, path: str = "packtivity") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from tree(found, f"{path} {name}")


EVERY = dict(tree(main))


def defaults(command: click.Command) -> dict[str, Any]:
    context = command.make_context("x", ["spec.yml"] if command is not checkproxy else ["proxy.json"])
    return context.params


@pytest.mark.parametrize("path", EVERY)
def test_every_command_and_option_has_help(path: str) -> None:
    command = EVERY[path]
    assert command.help
    without = [
        parameter.name
        for parameter in command.params
        if isinstance(parameter, click.Option) and not (parameter.help or "").strip()
    ]
    assert without == []


@pytest.mark.parametrize("path", EVERY)
def test_help_is_printed_and_fits_eighty_columns(path: str) -> None:
    result = CliRunner().invoke(main, [*path.split()[1:], "--help"])
    assert result.exit_code == 0
    verbatim = ("    <TypedLeafs", "    proxy-json")
    assert [line for line in result.output.splitlines() if len(line) > 80 and not line.startswith(verbatim)] == []
    assert result.output.isascii()


@pytest.mark.parametrize("path", [path for path in EVERY if isinstance(EVERY[path], Command)])
def test_what_a_command_is_given_is_what_its_class_declares(path: str) -> None:
    command = EVERY[path]
    assert isinstance(command, Command)
    module, _, function = command.call.partition(":")
    assert callable(getattr(import_module(f"packtivity.cli.{module}"), function))
    given = {str(parameter.name) for parameter in command.params if parameter.expose_value}
    typed = {name for base in command.options.__mro__ for name in vars(base).get("__annotations__", ())}
    assert given <= typed
    assert {name for name in typed - given if isinstance(getattr(command.options, name), click.Parameter)} == set()


UPSTREAM = {
    "run": {
        ("-p", "--parameter"): ("parameter", ()),
        ("-r", "--read"): ("read", ()),
        ("-w", "--write"): ("write", (".",)),
        ("-s", "--state"): ("state", ""),
        ("-t", "--toplevel"): ("toplevel", None),
        ("-c", "--schemasource"): ("schemasource", None),
        ("-v", "--verbosity"): ("verbosity", "ERROR"),
        ("--validate", "--no-validate"): ("validate", True),
        ("--asyncwait", "--async"): ("asyncwait", True),
        ("-b", "--backend"): ("backend", "defaultsync"),
        ("-x", "--proxyfile"): ("proxyfile", "proxy.json"),
        ("-o", "--outfile"): ("outfile", None),
    },
    "validate": {
        ("-t", "--toplevel"): ("toplevel", None),
        ("-c", "--schemasource"): ("schemasource", None),
        ("-n", "--schemaname"): ("schemaname", "packtivity/packtivity-schema"),
        ("--show", "--no-show"): ("show", False),
    },
}
_SHARED = [names for names in UPSTREAM["run"] if not {"--asyncwait", "-x", "-o"} & set(names)]
UPSTREAM["util pubtest"] = UPSTREAM["util shell"] = {names: UPSTREAM["run"][names] for names in _SHARED}


@pytest.mark.parametrize("path", UPSTREAM)
def test_options_of_the_original_are_there_with_their_defaults(path: str) -> None:
    command = EVERY[f"packtivity {path}"]
    spellings = {
        (*parameter.opts, *parameter.secondary_opts): parameter.name
        for parameter in command.params
        if isinstance(parameter, click.Option)
    }
    given = defaults(command)
    for names, (name, default) in UPSTREAM[path].items():
        assert spellings[names] == name
        assert given[name] == default


def test_programs_of_the_original_can_be_imported() -> None:
    assert [command.name for command in (runcli, validatecli, utilcli, checkproxy)] == [
        "packtivity-run",
        "packtivity-validate",
        "packtivity-util",
        "packtivity-checkproxy",
    ]


def test_what_the_package_has_not_is_an_attribute_error() -> None:
    import packtivity.cli

    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = packtivity.cli.nothing_like_it


@pytest.mark.parametrize("level", ["debug", "Info", "WARN", "critical", "fatal", "notset"])
def test_verbosity_is_taken_in_any_case(level: str) -> None:
    assert runcli.make_context("x", ["-v", level, "spec.yml"]).params["verbosity"] == level.upper()


def test_verbosity_that_is_no_level_is_refused_with_the_choices() -> None:
    result = CliRunner().invoke(runcli, ["-v", "loud", "spec.yml"])
    assert result.exit_code == 2
    assert "DEBUG, INFO, WARNING, ERROR, CRITICAL" in result.output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("90s", 90),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("1h30m", 5400),
        ("0.5h", 1800),
        (" 2 MIN", 120),
    ],
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-5", "m", "5x", "1h-30m", "nan", "inf", "1e3", "5 5", "h5"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    result = CliRunner().invoke(runcli, [f"--timeout={text}", "spec.yml"])
    assert result.exit_code == 2
    assert "is not a duration" in result.output


@given(st.floats(min_value=0.001, max_value=1e6), st.sampled_from("smhd"))
def test_a_duration_with_a_unit_is_a_multiple_of_the_one_without(number: float, unit: str) -> None:
    factor = {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    assert seconds(f"{number:.3f}{unit}") == pytest.approx(seconds(f"{number:.3f}") * factor)


_WORDS = st.sampled_from(
    ["-p", "-w", "-q", "-v", "--", "a=b", "-pa=b", "-w.", "--write", "--write=x", "-qp", "-o", "ERROR", "--async", "-x"]
)


@given(st.lists(_WORDS, max_size=7))
def test_short_options_mean_what_they_mean_to_click(words: list[str]) -> None:
    plain = click.Command("plain", params=runcli.params)
    outcomes: list[Any] = []
    for command in (plain, runcli):
        try:
            outcomes.append(command.make_context("x", [*words, "spec.yml"]).params)
        except click.UsageError as error:
            outcomes.append(type(error))
    assert outcomes[0] == outcomes[1]


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        found = seconds(text)
    except (ValueError, KeyError):
        return
    assert 0 < found < float("inf")


def test_a_command_that_is_nearly_right_is_named() -> None:
    result = CliRunner().invoke(main, ["valdate"])
    assert result.exit_code == 2
    assert "Did you mean 'validate'?" in result.output


def test_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    for command in (main, runcli, validatecli, utilcli, checkproxy):
        assert CliRunner().invoke(command, ["--version"]).output == f"packtivity {version('packtivity')}\n"
