"""Whatever a document has in it: no command prints a character that a terminal would act on, and lines to run stay exact."""

from __future__ import annotations

import ast
import copy
import io
import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import packtivity.cli
from packtivity import printable
from packtivity.runtimes.shell_lines import ascii_line, joined, shell_line
from packtivity.types import Execution
from tests.cli.test_terminal import on_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

BAD = "\x1b]0;x\x07\x1b[2J\x7f\x85\x9b31m\u202e\u2066\u200b\u200f\u2028\rC"
"""What sets titles, clears the screen, colours, turns text around, or is not seen."""

LOCAL = {"environment_type": "localproc-env"}
DOCKER = {
    "environment_type": "docker-encapsulated", "image": "r.example/x", "imagetag": "1", "env": {"WORD": "a"},
    "envscript": "/setup", "workdir": "/w", "resources": ["CVMFS", {"kerberos": True}],
    "par_mounts": [{"jqscript": ".word", "mountpath": "/p"}],
}  # fmt: skip
COMMAND = {"process_type": "string-interpolated-cmd", "cmd": "echo {word} > {out}"}
SCRIPT = {"process_type": "interpolated-script-cmd", "interpreter": "sh", "script": "echo {word} > {out}\n"}
SPECS: dict[str, dict[str, Any]] = {
    "command": {"process": COMMAND, "environment": LOCAL, "publisher": {"publisher_type": "frompar-pub", "outputmap": {"o": "out"}}},
    "script": {"process": SCRIPT, "environment": LOCAL, "publisher": {"publisher_type": "interpolated-pub", "publish": {"o": "{out}"}}},
    "container": {"process": SCRIPT, "environment": DOCKER, "publisher": {"publisher_type": "fromglob-pub", "globexpression": "*", "outputkey": "o"}},
    "jq": {"process": COMMAND, "environment": LOCAL, "publisher": {"publisher_type": "fromparjq-pub", "script": "{o: .word}"}},
    "yaml": {"process": COMMAND, "environment": LOCAL, "publisher": {"publisher_type": "fromyaml-pub", "yamlfile": "o.yml"}},
    "constant": {"process": None, "environment": None, "publisher": {"publisher_type": "constant-pub", "publish": {"a": "b", "c": ["d"]}}},
    "person": {
        "process": {"process_type": "manual-instructions-proc", "instructions": "do"},
        "environment": {"environment_type": "manual-instructions-env", "instructions": "there"},
        "publisher": {"publisher_type": "manual-instructions-pub", "instructions": "say"},
    },
}  # fmt: skip

TASK = ["spec.json", "par.json", "-w", "work"]
COMMANDS = {
    "run": ("packtivity-run", [*TASK]),
    "talkative run": ("packtivity-run", [*TASK, "-v", "DEBUG", "--debug"]),
    "print": ("packtivity-run", [*TASK, "--print-command", "--runtime", "docker"]),
    "dry": ("packtivity-run", [*TASK, "--dry-run", "--runtime", "docker"]),
    "strict": ("packtivity-run", [*TASK, "--strict", "--dry-run"]),
    "not validated": ("packtivity-run", [*TASK, "--no-validate", "--dry-run"]),
    "validate": ("packtivity-validate", ["spec.json", "par.json"]),
    "validate, JSON": ("packtivity-validate", ["spec.json", "par.json", "--format", "json"]),
    "validate, SARIF": ("packtivity-validate", ["spec.json", "par.json", "--format", "sarif"]),
    "validate, GitHub": ("packtivity-validate", ["spec.json", "par.json", "--format", "github"]),
    "show": ("packtivity-validate", ["spec.json", "--show"]),
    "describe": ("packtivity", ["describe", "spec.json"]),
    "describe, JSON": ("packtivity", ["describe", "spec.json", "--format", "json"]),
    "example": ("packtivity", ["example", "spec.json"]),
    "lock": ("packtivity", ["lock", "spec.json", "--runtime", "docker"]),
    "pubtest": ("packtivity-util", ["pubtest", *TASK]),
    "shell line": ("packtivity-util", ["shell", *TASK, "--runtime", "docker"]),
}
_QUIET = {"PACKTIVITY_CVMFS_SOURCE": "voldriver", "DOCKER_HOST": "tcp://127.0.0.1:1"}


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """Give each place of a document where text can stand, and whether it is a key there."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield (*path, key), True
            yield from places(value, (*path, key))
    elif isinstance(document, list):
        for at, value in enumerate(document):
            yield from places(value, (*path, at))
    else:
        yield path, False


def spoilt(document: Any, path: tuple[Any, ...], *, key: bool) -> Any:
    """Return a document with bad text at one place."""
    made = copy.deepcopy(document)
    around = made
    for part in path[:-1]:
        around = around[part]
    if key:
        around[f"{path[-1]}{BAD}"] = around.pop(path[-1])
    else:
        around[path[-1]] = f"{around[path[-1]]}{BAD}"
    return made


def harmful(text: str) -> list[str]:
    return sorted({c for c in text if not c.isprintable() and c not in "\n\t"})


@pytest.fixture
def pretended(quick: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a docker on the PATH that writes down what it is given."""
    programs: Path = quick.directory / "bin"
    programs.mkdir()
    dump = f"for word; do printf '%s\\001' \"$word\"; done >> '{programs}/seen'; cat >> '{programs}/seen'"
    identity = f"echo 'sha256:{'cd' * 32} [\"r.example/x@sha256:{'ab' * 32}\"]'"
    (programs / "docker").write_text(f'#!/bin/sh\ncase "$*" in *inspect*) {identity} ;; *"run --rm"*) {dump} ;; esac\n')
    (programs / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PACKTIVITY_CACHE_DIR", str(quick.directory / "cache"))
    monkeypatch.setenv("PACKTIVITY_AUTH_LOCATION", str(quick.directory))
    for name, value in _QUIET.items():
        monkeypatch.setenv(name, value)
    return programs


def check(done: Any, what: str) -> None:
    for stream in (done.stdout, done.stderr):
        assert harmful(stream) == [], f"{what}: {stream!r}"


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_in_a_spec_steers_a_terminal(quick: Any, pretended: Path, command: str) -> None:
    program, arguments = COMMANDS[command]
    quick.write("par.json", json.dumps({"word": "w", "out": "{workdir}/o"}))
    count = 0
    for name, spec in SPECS.items():
        for path, key in places(spec):
            quick.write("spec.json", json.dumps(spoilt(spec, path, key=key)))
            check(quick(program, *arguments), f"{name} {path} {key}")
            count += 1
    assert count > 80


@pytest.mark.parametrize("command", [name for name, (_, arguments) in COMMANDS.items() if "par.json" in arguments])
def test_nothing_in_parameters_steers_a_terminal(quick: Any, pretended: Path, command: str) -> None:
    program, arguments = COMMANDS[command]
    documents = (
        {"word": BAD, "out": "{workdir}/o"},
        {"word": "w", "out": f"{{workdir}}/{BAD}"},
        {"word": {BAD: BAD}, "out": [BAD]},
        {"word": "w", "out": "{workdir}/o", BAD: "w"},
        {f"word{BAD}": "w", "out": "{workdir}/o"},
        {"word": f"{{{BAD}}}", "out": "{workdir}/o"},
    )
    for spec in SPECS.values():
        quick.write("spec.json", json.dumps(spec))
        for document in documents:
            quick.write("par.json", json.dumps(document))
            check(quick(program, *arguments), f"{document}")


@pytest.mark.parametrize("command", COMMANDS)
def test_names_of_files_do_not_steer_a_terminal(quick: Any, pretended: Path, command: str) -> None:
    program, arguments = COMMANDS[command]
    for text in (json.dumps(SPECS["command"]), json.dumps({"x": 1}), "{", "[a\x1b[2J"):
        for name in arguments:
            if name not in ("spec.json", "par.json", "work"):
                continue
            bad = f"{name}{BAD}"
            quick.write("par.json", json.dumps({"word": "w", "out": "{workdir}/o"}))
            quick.write("spec.json", text)
            if name != "work":
                quick.write(bad, (quick.directory / name).read_text())
            check(quick(program, *[bad if word == name else word for word in arguments]), f"{text} {name}")
            absent = [f"absent{bad}" if word == name else word for word in arguments]
            check(quick(program, *absent), f"{text} absent {name}")


def test_other_commands_say_nothing_that_steers_a_terminal(quick: Any, pretended: Path) -> None:
    quick.write("spec.json", json.dumps(SPECS["command"]))
    rows = "\n".join(json.dumps({"word": word}) for word in ("a", BAD, f"x; exit 3 {BAD}", BAD))
    quick.write(f"sets{BAD}.jsonl", rows)
    over = ["--over", f"sets{BAD}.jsonl", "-p", "out={workdir}/o", "-w", f"map{BAD}"]
    check(quick("packtivity", "map", "spec.json", "-b", "foregroundasync", *over), "map")
    quick.write("bad.jsonl", json.dumps({BAD: BAD, "x": 1}))
    check(quick("packtivity", "map", "spec.json", "-b", "foregroundasync", *over[2:], "--over", "bad.jsonl"), "map")
    proxy = {
        "proxyname": "ForegroundProxy",
        "proxydetails": {"resultdata": {BAD: [BAD]}, "success": True, "labels": [BAD]},
    }
    proxies: list[Any] = [
        proxy,
        {**proxy, "proxydetails": {"resultdata": None, "success": False, "error": {"type": BAD, "message": BAD}}},
        {**proxy, "proxyname": BAD},
        {"proxyname": "ExternalAsyncProxy", "proxydetails": {BAD: BAD}},
        {"proxyname": "LocalProxy", "proxydetails": {"id": BAD, "record": BAD, "name": BAD}},
        BAD,
        {BAD: 1},
    ]
    names = [quick.write(f"{at}{BAD}.json", json.dumps(document)) for at, document in enumerate(proxies)]
    for chosen in (*([name] for name in names), names):
        for more in ([], ["--format", "json"], ["--logs"], ["--follow", "--timeout", "1"], ["--cancel"]):
            check(quick("packtivity-checkproxy", *chosen, *more), f"{chosen} {more}")
    worker = {
        "spec": SPECS["command"],
        "parameters": {"word": f"{BAD}; exit 3", "out": "o"},
        "id": BAD,
        "metadata": {"name": BAD},
    }
    for document in (worker, BAD, {BAD: BAD}, {**worker, "config": {"exec": {"timeout": BAD}}}):
        quick.write("task.json", json.dumps(document))
        check(quick("packtivity", "worker", "task.json"), f"{document}")
    check(quick("packtivity-run", f"--no-such{BAD}"), "click")
    check(quick("packtivity", f"no-such{BAD}"), "click")
    check(quick("packtivity-run", "spec.json", "-o", "."), "click")


def test_what_a_task_prints_does_not_steer_the_terminal_in_errors(quick: Any) -> None:
    octal = "".join(f"\\{byte:03o}" for byte in BAD.encode())
    spec = {**SPECS["command"], "process": {**COMMAND, "cmd": f"printf '{octal}{octal}\\n'; exit 3"}}
    quick.write("spec.json", json.dumps(spec))
    quick.write("par.json", json.dumps({"word": "w", "out": "{workdir}/o"}))
    done = quick("packtivity-run", *TASK)
    assert (done.returncode, "Last output" in done.stderr) == (6, True)
    check(done, "the end of the log")
    log = next((quick.directory / "work" / "_packtivity").glob("*.run.log")).read_bytes()
    assert BAD.encode() * 2 in log  # as the task wrote it


# --- at a terminal ---------------------------------------------------------------------------------------------

_OURS = re.compile(r"\r\n|\r\x1b\[K|\x1b\[(?:0|1|3[1-4])m")


@pytest.mark.parametrize("spec", ["command", "script", "jq", "constant"])
def test_a_person_sees_the_result_and_no_more(commands: Any, spec: str) -> None:
    document = copy.deepcopy(SPECS[spec])
    if spec == "constant":
        document["publisher"]["publish"] = {f"a{BAD}": BAD}
    commands.write("spec.json", json.dumps(document))
    commands.write("par.json", json.dumps({"word": f"'{BAD}'", "out": f"{{workdir}}/o{BAD}"}))
    written, code = on_terminal(commands, *TASK)
    assert code in (0, 6)
    assert harmful(_OURS.sub("", written)) == []


def test_diagnostics_stay_aligned_and_coloured(commands: Any) -> None:
    line = 'process: {process_type: string-interpolated-cmd, cmd: "\u200b\u202e\u00ad", cmdd: 1}'
    commands.write(
        "spec.yml", f"{line}\nenvironment: null\npublisher: {{publisher_type: constant-pub, publish: {{}}}}\n"
    )
    done = commands("packtivity-validate", "spec.yml")
    check(done, "text")
    lines = done.stderr.split("\n")
    at = next(number for number, text in enumerate(lines) if text.endswith("^"))
    assert lines[at - 1][lines[at].index("^") :] == "cmdd: 1}"
    assert "\\u200b\\u202e\\xad" in lines[at - 1]
    written, _ = on_terminal(commands, "spec.yml")
    assert "\x1b[1m" in written
    assert harmful(_OURS.sub("", written)) == []


class _Screen(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_a_log_is_raw_where_it_is_piped_or_its_task_runs_and_escaped_elsewhere(tmp_path: Path) -> None:
    from packtivity.cli.proxy_files import print_from

    log = tmp_path / "run.log"
    content = f"a{BAD}é\n".encode() * 9000 + b"\xff\xfe\n"
    log.write_bytes(content)
    for kind, raw, expected in ((io.TextIOWrapper, False, content), (_Screen, True, content), (_Screen, False, None)):
        stream = kind(io.BytesIO(), encoding="utf-8")
        assert print_from(str(log), 0, stream, as_written=raw) == len(content)
        shown = stream.buffer.getvalue()  # type: ignore[attr-defined]
        assert (shown == content) == (expected is not None)
        if expected is None:
            assert harmful(shown.decode()) == []
            assert shown.decode().count("\n") == 9001


def test_nothing_else_in_the_command_line_prints() -> None:
    """Whoever adds a command prints through :mod:`packtivity.cli.terminal`."""
    static = {("completion.py", "echo"), ("validate.py", "secho")}
    found = set()
    for path in Path(packtivity.cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and path.name != "terminal.py":
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                where = ast.unparse(node.func)
                if name in ("echo", "secho", "print") or where.startswith(("sys.stdout.write", "sys.stderr.write")):
                    found.add((path.name, name))
    assert found == static


# --- lines to run ----------------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
awkward = st.lists(
    st.sampled_from([*BAD, "\n", "\t", "'", '"', "\\", "$", "`", "%", "é", "a", "=", "~", "-", " "])
).map("".join)
SHELLS = ("dash", "bash")


def words(shell: str, line: str) -> list[str]:
    done = subprocess.run([shell, "-c", line], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


@settings(max_examples=60, deadline=None)
@given(st.lists(text | awkward, max_size=5))
@example(["\n", "a\n", "a\n\n", "\x1b\n", "\n\x1b\n"])
@example(["A=\x1b", "%s\x1b", "\\\x1b'", "\x1b7", "\x850"])
def test_a_line_shows_what_it_runs_and_runs_what_it_shows(arguments: list[str]) -> None:
    argv = ("printf", "%s\\0", *arguments)
    line, one_line = joined(argv), ascii_line(argv)
    assert harmful(line) == []
    assert one_line.isascii()
    assert one_line.isprintable()
    for shell in SHELLS:
        assert words(shell, line) == (arguments or [""])
        assert words(shell, one_line) == (arguments or [""])
    done = subprocess.run(shlex.split(one_line), capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == (arguments or [""])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text | awkward)
@example("echo \x1b[2K\rrm -rf x\n")
@example("\x1b\n\n")
def test_input_and_directories_in_a_line_are_exact(tmp_path: Path, script: str) -> None:
    folder = tmp_path / "a\x1b\u202e b\n"
    folder.mkdir(exist_ok=True)
    execution = Execution(("sh", "-c", "cat; pwd"), stdin=script.encode() or None, workdir=str(folder))
    line = shell_line(execution)
    assert harmful(line) == []
    for shell in SHELLS:
        done = subprocess.run([shell, "-c", line], capture_output=True, check=True)
        assert done.stdout == script.encode() + f"{folder}\n".encode()


@pytest.mark.parametrize("kind", ["command", "script", "container"])
def test_the_printed_line_does_what_the_run_does(quick: Any, pretended: Path, kind: str) -> None:
    spec = copy.deepcopy(SPECS[kind])
    key = "script" if kind != "command" else "cmd"
    spec["process"][key] = f"cat <<'E' > '{{out}}'\n{{word}}{BAD}\nE\n"
    if kind == "container":
        spec["environment"] = {**DOCKER, "env": {"WORD": f"{BAD}\n"}, "resources": [], "workdir": f"/{BAD}"}
        spec["environment"]["par_mounts"] = [{"jqscript": ".word", "mountpath": f"/p{BAD}"}]
        spec["publisher"] = {"publisher_type": "constant-pub", "publish": {}}
    quick.write("spec.json", json.dumps(spec))
    quick.write("par.json", json.dumps({"word": BAD, "out": "{workdir}/o"}))
    printed = quick("packtivity-run", *TASK, "--print-command", "--runtime", "docker")
    assert (printed.returncode, harmful(printed.stdout)) == (0, [])
    made = pretended / "seen" if kind == "container" else quick.directory / "work" / "o"
    done = quick("packtivity-run", *TASK, "--runtime", "docker")
    assert done.returncode == 0, done.stderr
    expected = _without_names(made.read_bytes())
    assert BAD.encode() in expected
    for shell in SHELLS:
        made.unlink()
        subprocess.run([shell, "-c", printed.stdout], check=True, cwd=quick.directory)
        assert _without_names(made.read_bytes()) == expected


def _without_names(seen: bytes) -> bytes:
    """Leave out what only a run has: the container's name, and files for its identifier."""
    return re.sub(rb"(?:--cidfile|--name|--pull)\x01[^\x01]*\x01", b"", seen)


@given(text)
def test_escapes_hide_nothing_and_keep_lines(given_: str) -> None:
    shown = printable.escaped(given_)
    assert harmful(shown) == []
    assert shown.count("\n") == given_.count("\n")
    assert harmful(printable.readable(given_)) == []
    assert json.dumps([given_]).isprintable()  # which printed JSON relies on
