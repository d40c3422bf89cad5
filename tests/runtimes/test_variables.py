"""A document's variables reach its task and nothing else: no tool, and no other process on the host, ever has them."""

from __future__ import annotations

import itertools
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packtivity.errors import ParameterError
from packtivity.handlers.config import ExecutionConfig
from packtivity.runtimes import image_store, images, supervise
from packtivity.runtimes.base import Host, Launch, with_variables
from packtivity.runtimes.choose import TOOLS as CLASSES
from packtivity.runtimes.containers import plan_container
from packtivity.runtimes.shell_lines import container_line
from packtivity.statecontexts import LocalFSState
from packtivity.types import Execution

if TYPE_CHECKING:
    from pathlib import Path

    from packtivity.runtimes.base import Runtime

HOST = Host(1000, 100, "ada")
ROOTLESS = Host(1000, 100, "ada", rootless=True)
LAUNCH = Launch("img:1", "packtivity-x", "/tmp/scratch")
TOOLS = sorted(CLASSES)

NAMES = [
    "*", "A*", "BASH_FUNC_ls%%", "", "A=B", "a-b", "a.b", "A B", " A", "A\n", "A\r", "1A", "é", "-e", "--privileged",
    "A;id", "$(id)", "A,B", '"A"', "A\0",
]  # fmt: skip
"""Names that some tool takes for something else, or that no shell can set."""

STEERING = {
    "LD_PRELOAD": "/MARK/evil.so:\r",
    "PATH": "/MARK/bin:\r",
    "DOCKER_HOST": "tcp://MARK\r",
    "CONTAINER_HOST": "tcp://MARK\r\n",
    "BASH_ENV": "/MARK\r",
    "PROOT_TMP_DIR": "/MARK",
    "APPTAINERENV_LD_PRELOAD": "/MARK",
    "SINGULARITY_BIND": "/MARK",
    "GLIBC_TUNABLES": "MARK\n\r\n",
    "TMPDIR": "/MARK",
    "HTTPS_PROXY": "http://MARK",
}
"""Variables that would steer a tool, if it had them, with values that have gone through its environment before."""

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{2,8}", fullmatch=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_refuses_what_is_no_name(tool: str, name: str) -> None:
    for value in ("1", "\r"):
        with pytest.raises(ParameterError) as caught:
            CLASSES[tool](HOST).run_argv(Execution(("true",), image="i", env={name: value}), LAUNCH)
        assert repr(name) in caught.value.message
        assert "letters, digits and underscores" in caught.value.hint


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_refuses_them_before_any_tool_is_chosen(name: str) -> None:
    environment = {"environment_type": "docker-encapsulated", "image": "a", "imagetag": "1", "env": {name: "\r"}}
    with pytest.raises(ParameterError) as caught:
        plan_container({"command": "true"}, environment, LocalFSState(["/w"]), ExecutionConfig())
    assert f"environment.env: {name!r}" in caught.value.message


@pytest.mark.parametrize("value", ["a\0b", "half \ud800"])
@pytest.mark.parametrize("tool", TOOLS)
def test_values_that_no_variable_can_have_are_refused_by_the_name(tool: str, value: str) -> None:
    with pytest.raises(ParameterError, match="the value of WORD has"):
        CLASSES[tool](HOST).run_argv(Execution(("true",), image="i", env={"WORD": value}), LAUNCH)


@given(st.dictionaries(names, words | words.map(lambda text: f"{text}\r")))
def test_no_tool_s_environment_has_a_variable_of_a_document(variables: dict[str, str]) -> None:
    caller = {"PATH": "/bin", "BEARER_TOKEN": "secret", **dict.fromkeys(variables, "of the caller")}
    task = Execution(("true",), image="i", env=variables)
    for tool in TOOLS:
        for host in (HOST, ROOTLESS):
            assert CLASSES[tool](host).client_env(task, caller) == {}


@given(st.dictionaries(names, words, min_size=1))
def test_no_option_takes_a_variable_of_a_document_from_the_tool_s_environment(variables: dict[str, str]) -> None:
    for tool in TOOLS:
        argv = CLASSES[tool](HOST).run_argv(Execution(("true",), image="i", env=variables), LAUNCH)
        given_ = [word for before, word in itertools.pairwise(argv) if before == "--env"]
        assert all("=" in word for word in given_)
        assert not any(word.startswith(("--env=", "--env-file", "-e")) for word in argv[: argv.index("true")])


@given(st.dictionaries(names.map(lambda name: f"V{name}"), words, min_size=1))
def test_what_a_shell_inside_sets_arrives_as_it_is(variables: dict[str, str]) -> None:
    argv = with_variables(variables, ("/usr/bin/env", "-0"))
    done = subprocess.run(argv, capture_output=True, check=True, env={"PATH": os.defpath})
    seen = dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if "=" in entry)
    assert {name: seen[name] for name in variables} == variables


# --- what a tool that is started has ---------------------------------------------------------------------------

_IDENTIFIER = "sha256:" + "cd" * 32


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put programs on the PATH that only write down their environments; return where."""
    programs, dumps = tmp_path / "bin", tmp_path / "dumps"
    programs.mkdir()
    dumps.mkdir()
    for tool in TOOLS:
        script = f"cat /proc/$$/environ > {dumps}/$$\ncase \"$*\" in *inspect*) echo '{_IDENTIFIER} []' ;; esac\n"
        (programs / tool).write_text(f"#!/bin/sh\n{script}")
        (programs / tool).chmod(0o755)
        (programs / "shifterimg").write_text(f"#!/bin/sh\n{script}")
        (programs / "shifterimg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PACKTIVITY_CACHE_DIR", str(tmp_path / "cache"))
    return dumps


def with_image(tool: str, folder: Path) -> Runtime:
    """Return a runtime that has the image ``r.example/x:1`` at hand."""
    runtime = CLASSES[tool](HOST)
    if not runtime.has_store:
        (folder / "x.sif").write_text("")
        image_store.write_note(runtime, images.Image("r.example/x:1", str(folder / "x.sif")))
    return runtime


def check_environments(dumps: Path) -> None:
    """Check that programs were started, and none of them with a variable of the task's."""
    dumped = [path.read_bytes() for path in dumps.iterdir()]
    assert dumped
    assert not any(b"MARK" in environment for environment in dumped)


def watch() -> supervise.Supervision:
    from contextlib import nullcontext

    return supervise.Supervision(say=lambda _: None, pull_log=lambda: nullcontext(None), noted=False)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_that_is_started_has_none_of_them(pretended: Path, tmp_path: Path, tool: str) -> None:
    runtime = with_image(tool, tmp_path)
    task = Execution(("sh", "-c", "true"), image="r.example/x:1", env=STEERING)
    supervise.run_container(runtime, task, None, watch())
    check_environments(pretended)


@pytest.mark.parametrize("tool", TOOLS)
def test_the_line_to_run_by_hand_sets_none_of_them_for_the_tool(pretended: Path, tmp_path: Path, tool: str) -> None:
    runtime = with_image(tool, tmp_path)
    line = container_line(runtime, Execution(("sh", "-c", "true"), image="r.example/x:1", env=STEERING))
    subprocess.run(["bash", "-c", line], check=True)
    check_environments(pretended)


def test_variables_of_the_caller_s_own_still_go_by_the_tool_s_environment(pretended: Path, tmp_path: Path) -> None:
    task: Any = Execution(("true",), image="i", env={"TOKEN": "\r"}, pass_env=("BEARER_TOKEN",), user="caller")
    caller = {"BEARER_TOKEN": "a.b-c", "TOKEN": "x"}
    assert CLASSES["apptainer"](HOST).client_env(task, caller) == {"APPTAINERENV_BEARER_TOKEN": "a.b-c"}
    argv = CLASSES["podman"](HOST).run_argv(task, LAUNCH)
    assert argv[argv.index("--env", argv.index("USER=ada")) + 1] == "BEARER_TOKEN"
