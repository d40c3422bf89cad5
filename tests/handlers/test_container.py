"""Containers from plan to note, with a program in Docker's place that runs the task right here.

What the tools themselves do is tested with the real ones, in tests/containers.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from packtivity import errors
from packtivity.handlers import container
from packtivity.handlers import execution_handlers as executors
from packtivity.handlers.config import ExecutionConfig
from packtivity.notes import RunNotes, close_notes, open_notes
from packtivity.runtimes.choose import choose
from packtivity.runtimes.oci import Podman
from packtivity.runtimes.shell_lines import container_line
from packtivity.spec.resources import findings
from packtivity.types import Limits, Mount

if TYPE_CHECKING:
    from collections.abc import Callable

    from packtivity.statecontexts import LocalFSState
    from packtivity.types import Diagnostic

DIGEST = "sha256:" + "ab" * 32
IDENTIFIER = "sha256:" + "12" * 32
ENVIRONMENT = {"environment_type": "docker-encapsulated", "image": "lab/base", "imagetag": "1", "envscript": ""}

# What a container engine is to us: answers about an image, a run of the words after the image, a removal, events.
ENGINE = """#!/bin/sh
echo "$*" >>"{folder}/calls"
case $1 in
  image) cat "{folder}/image" ;;
  events) cat "{folder}/events" ;;
  run) until case $1 in *lab/base:1) true ;; *) false ;; esac; do shift; done; shift; exec "$@" ;;
esac
"""


class Engine:
    """The program, by the name of one tool or the other, and what it answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("docker", "podman"):
            (folder / name).write_text(ENGINE.format(folder=folder))
            (folder / name).chmod(0o755)
        self.answers("image", f'{IDENTIFIER} ["lab/base@{DIGEST}"]')
        self.answers("events", "")

    def answers(self, question: str, text: str) -> None:
        (self.folder / question).write_text(text + "\n")

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines() if (self.folder / "calls").exists() else []


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    for variable in [name for name in os.environ if name.startswith("PACKTIVITY_")]:
        monkeypatch.delenv(variable)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
    monkeypatch.setenv("DOCKER_HOST", "tcp://nobody.invalid:1")  # no socket to knock at
    monkeypatch.setattr(Podman, "trouble", lambda self, caller: "")  # which a real Podman needs
    monkeypatch.setenv("PACKTIVITY_CACHE_DIR", str(tmp_path / "cache"))
    return Engine(tmp_path / "bin")


def config(**more: Any) -> ExecutionConfig:
    containers = {"runtime": "docker", **more.pop("containers", {})}
    return ExecutionConfig({"logging_level": "CRITICAL", "containers": containers, **more})


@pytest.fixture
def run(engine: Engine, state: LocalFSState) -> Callable[..., Any]:
    """Run a command in the environment, as the executor would."""

    def run(command: str, environment: dict[str, Any] = ENVIRONMENT, **more: Any) -> Any:
        handler = executors.handlers["docker-encapsulated"]["default"]
        return handler(config(**more), environment, state, {"command": command}, {"name": "t"})

    return run


@pytest.fixture
def noted() -> Any:
    """What is noted for the record."""
    opened = RunNotes()
    token = open_notes(opened)
    yield opened
    close_notes(token)


def log(state: LocalFSState, topic: str = "run") -> str:
    return Path(f"{state.metadir}/t.{topic}.log").read_text()


def note(state: LocalFSState) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{state.metadir}/t.container.json").read_text())
    return found


# --- planning --------------------------------------------------------------------------------------------------


def test_a_plan_names_image_command_and_directories_and_starts_nothing(engine: Engine, state: LocalFSState) -> None:
    planned = executors.plan(config(), ENVIRONMENT, state, {"command": "echo x"})
    assert planned is not None
    assert (planned.image, planned.argv) == ("lab/base:1", ("sh", "-c", "echo x"))
    assert planned.mounts == (Mount(state.readwrite[0], state.readwrite[0]),)
    assert engine.calls() == []


def test_a_grid_proxy_that_is_asked_for_is_in_the_plan(
    state: LocalFSState, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    proxy = tmp_path / "x509"
    proxy.write_text("of unknown lifetime")
    monkeypatch.setenv("X509_USER_PROXY", str(proxy))
    asking = {**ENVIRONMENT, "resources": [{"voms_proxy": True}]}
    planned = container.plan(config(), asking, state, {"command": "true"})
    assert str(proxy) in [mount.source for mount in planned.mounts]
    assert "X509_USER_PROXY" in planned.env
    assert container.plan(config(), ENVIRONMENT, state, {"command": "true"}).env == {}


def expired_token() -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() - 60}).encode()).decode().rstrip("=")
    return f"e30.{claims}.c2ln"


def test_a_ticket_that_is_no_longer_good_is_said_and_stops_only_the_strict(
    state: LocalFSState, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    monkeypatch.setenv("BEARER_TOKEN", expired_token())
    monkeypatch.setenv("X509_USER_PROXY", "/nowhere")
    asking = {**ENVIRONMENT, "resources": [{"voms_proxy": True}]}
    warned: list[Diagnostic] = []
    chosen = config()
    chosen.warn = warned.append
    assert "BEARER_TOKEN" not in container.plan(chosen, asking, state, {"command": "true"}).pass_env
    assert [diagnostic.code for diagnostic in warned] == ["credential-expired", "credential-missing"]
    with pytest.raises(errors.EnvironmentUnavailable, match="bearer token that the task asks for has expired"):
        container.plan(config(strict=True), asking, state, {"command": "true"})


def test_what_is_not_here_is_left_out_and_said_in_the_log_of_the_task(
    run: Any, state: LocalFSState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5CCNAME", "/nowhere")
    for variable in ("CVMFS", "AUTH"):
        monkeypatch.setenv(f"PACKTIVITY_{variable}_LOCATION", str(tmp_path / variable))
    asking = {**ENVIRONMENT, "resources": ["CVMFS", "KRB5Auth"]}
    run("true", asking)
    said = log(state, "step")
    assert said.count(f"there is no {tmp_path}/CVMFS here; it runs without") == 1
    assert said.count(f"no Kerberos ticket that can be used, nor {tmp_path}/AUTH") == 1
    planned = container.plan(config(), asking, state, {"command": "true"})
    assert ([mount.destination for mount in planned.mounts], planned.env) == (state.readwrite, {})
    for variable in ("CVMFS", "AUTH"):
        (tmp_path / variable).mkdir()
    planned = container.plan(config(), asking, state, {"command": "true"})
    assert [mount.destination for mount in planned.mounts if mount.readonly] == ["/cvmfs", "/recast_auth"]
    assert planned.env == {"KRB_SETUP_SCRIPT": "/recast_auth/getkrb.sh"}


def test_a_daemon_elsewhere_may_have_what_is_not_here(
    state: LocalFSState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACKTIVITY_WORKDIR_LOCATION", "/in:/out")
    monkeypatch.setenv("PACKTIVITY_CVMFS_LOCATION", str(tmp_path / "cvmfs"))
    planned = container.plan(config(), {**ENVIRONMENT, "resources": ["CVMFS"]}, state, {"command": "true"})
    assert "/cvmfs" in [mount.destination for mount in planned.mounts]


def test_the_line_to_run_by_hand_does_what_the_run_does(engine: Engine, state: LocalFSState, workdir: Path) -> None:
    job = {"script": "echo 'it is' > made\n", "interpreter": f"cd {workdir} && sh"}
    line = container_line(
        choose(config().container_config.runtime()), container.plan(config(), ENVIRONMENT, state, job)
    )
    assert "docker run --rm -i" in line
    subprocess.run(["sh", "-c", line], check=True)
    assert (workdir / "made").read_text() == "it is\n"


# --- running ---------------------------------------------------------------------------------------------------


def test_output_goes_to_the_run_log_and_what_ran_to_the_step_log(run: Any, engine: Engine, state: LocalFSState) -> None:
    run("echo from inside; echo and this >&2")
    assert [line.split(" | ")[-1] for line in log(state).splitlines()[1:]] == ["from inside", "and this"]
    step = log(state, "step")
    assert "running: sh -c 'echo from inside; echo and this >&2'" in step
    assert f"image: lab/base:1 ({DIGEST}) with docker" in step
    assert re.search(r"container command: docker run --rm .*--name packtivity-[0-9a-f]{16} --pull never", step)
    assert "exit code 0 after" in step
    assert not [call for call in engine.calls() if call.startswith("pull")]


def test_what_was_run_is_noted_for_the_record(run: Any, noted: RunNotes) -> None:
    run("exit 0")
    assert noted.image == {"reference": "lab/base:1", "digest": DIGEST}
    assert (noted.argv or [])[:2] == ["docker", "run"]
    assert noted.completed is not None
    assert noted.completed.returncode == 0
    assert not noted.out_of_memory


def test_what_was_run_lies_beside_the_logs_also_when_it_failed(run: Any, state: LocalFSState, workdir: Path) -> None:
    before = time.time()
    with pytest.raises(errors.TaskFailed, match="exit code 3"):
        run("exit 3")
    found = note(state)
    assert before <= found.pop("started") <= found.pop("ended") <= time.time()
    assert found == {
        "image": "lab/base:1",
        "digest": DIGEST,
        "identifier": IDENTIFIER,
        "runtime": "docker",
        "exit_code": 3,
    }
    assert [name for name in os.listdir(workdir / "_packtivity") if "container.json." in name] == []


def test_an_image_that_never_was_in_a_registry_is_named_by_its_identifier(
    run: Any, engine: Engine, state: LocalFSState
) -> None:
    engine.answers("image", f"{IDENTIFIER} []")
    run("true")
    assert f"image: lab/base:1 ({IDENTIFIER}) with docker" in log(state, "step")
    assert note(state)["digest"] is None


def test_an_image_without_any_identifier_is_said_to_have_no_digest(
    run: Any, engine: Engine, state: LocalFSState
) -> None:
    engine.answers("image", " udocker says it in other ways")
    run("true")
    assert "image: lab/base:1 (without a digest) with docker" in log(state, "step")
    assert (note(state)["digest"], note(state)["identifier"]) == (None, None)


def test_without_logs_nothing_is_written_beside_them(run: Any, workdir: Path) -> None:
    run("true", logging=False)
    assert list(workdir.iterdir()) == []


def test_a_dry_run_asks_no_container_tool(run: Any, engine: Engine, state: LocalFSState) -> None:
    assert run("touch made", dry_run=True) is None
    assert "dry run: not run in lab/base:1" in log(state, "step")
    assert engine.calls() == []
    assert not Path(f"{state.metadir}/t.container.json").exists()


def test_a_failure_names_the_log_with_all_output(run: Any, state: LocalFSState) -> None:
    with pytest.raises(errors.TaskFailed) as caught:
        run("echo trouble; exit 4")
    assert str(caught.value).startswith("the task failed with exit code 4: echo trouble; exit 4\n")
    assert (caught.value.returncode, caught.value.log) == (4, f"{state.metadir}/t.run.log")


def test_a_tool_that_cannot_start_the_container_is_told_from_a_task_that_failed(run: Any, state: LocalFSState) -> None:
    with pytest.raises(errors.EnvironmentUnavailable, match="docker could not start the container"):
        run("echo 'docker: Error response from daemon: no space left on device' >&2; exit 125")
    assert not Path(f"{state.metadir}/t.container.json").exists()


def test_an_image_without_a_shell_is_said_to_have_none(run: Any) -> None:
    said = 'docker: Error response from daemon: exec: "sh": executable file not found in $PATH: unknown'
    with pytest.raises(errors.EnvironmentUnavailable, match=r"The image has no shell \(sh\)"):
        run(f"echo '{said}' >&2; exit 127")


@pytest.mark.parametrize("code", [126, 127, 255])
def test_what_another_tool_would_say_is_the_task_s_own_affair(run: Any, code: int) -> None:
    with pytest.raises(errors.TaskFailed, match=f"exit code {code}"):
        run(f"echo 'FATAL: no. Error: no' >&2; echo 'Error: no such image' >&2; exit {code}")


@pytest.mark.parametrize(
    ("name", "said", "runs"),
    [
        ("docker", "docker: Error response from daemon: No such image: lab/base:1.", 2),
        ("podman", "Error: lab/base:1: image not known", 2),
        ("docker", "in the task: no such image", 1),
    ],
)
def test_only_a_tool_that_misses_the_image_is_run_again(
    run: Any, engine: Engine, workdir: Path, name: str, said: str, runs: int
) -> None:
    once = f"[ -e {workdir}/again ] || {{ touch {workdir}/again; echo '{said}' >&2; exit 125; }}"
    if runs == 1:
        with pytest.raises(errors.TaskFailed):
            run(once, containers={"runtime": name})
    else:
        run(once, containers={"runtime": name})
    assert len([call for call in engine.calls() if call.startswith("run")]) == runs


def test_a_locked_digest_that_is_not_there_is_refused_before_anything_runs(run: Any, engine: Engine) -> None:
    with pytest.raises(errors.EnvironmentUnavailable, match="not in the lock file"):
        run("true", containers={"locked": {}})
    assert not [call for call in engine.calls() if call.startswith("run")]


# --- memory ----------------------------------------------------------------------------------------------------


def test_a_container_that_ran_out_of_its_memory_is_told_apart(
    run: Any, engine: Engine, state: LocalFSState, noted: RunNotes
) -> None:
    engine.answers("events", "oom")
    with pytest.raises(errors.TaskFailed) as caught:
        run("echo much; exit 137", containers={"memory": "64M"})
    assert str(caught.value).startswith("the task ran out of memory of 64 MiB and was killed\nAll output: ")
    assert (caught.value.returncode, caught.value.output) == (137, "much\n")
    assert caught.value.hint == "Give it more (--memory)."
    assert noted.out_of_memory is True
    assert note(state)["exit_code"] == 137


def test_without_a_limit_it_is_the_machine_s_memory_that_ran_out(run: Any, engine: Engine) -> None:
    engine.answers("events", "oom")
    with pytest.raises(errors.TaskFailed, match="ran out of memory and was killed") as caught:
        run("exit 137", logging=False)
    assert "All output" not in str(caught.value)
    assert caught.value.hint == "Run it on a machine with more memory."


def test_docker_is_asked_whether_it_was_the_memory(run: Any, engine: Engine) -> None:
    with pytest.raises(errors.TaskFailed, match="failed with exit code 137"):
        run("exit 137", containers={"memory": "64M"})
    (asked,) = [call for call in engine.calls() if call.startswith("events")]
    assert "--filter event=oom" in asked


@pytest.mark.skipif(os.getuid() != 0, reason="Podman of an ordinary user needs subordinate user ids")
def test_podman_is_taken_at_its_limit(run: Any) -> None:
    with pytest.raises(errors.TaskFailed, match="ran out of memory of 1 MiB"):
        run("exit 137", containers={"runtime": "podman", "memory": "1M"})
    with pytest.raises(errors.TaskFailed, match="failed with exit code 137"):
        run("exit 137", containers={"runtime": "podman"})


@pytest.mark.parametrize(
    ("user", "command", "home"),
    [
        ("caller", ". ~/setup.sh", "/tmp"),
        ("500", "cat $HOME/x", "/tmp"),
        ("image", ". ~/setup.sh", None),
        ("caller", "cat /tmp/x", None),
    ],
)
def test_why_the_home_of_the_image_s_user_is_not_there_is_said(
    run: Any, user: str, command: str, home: str | None
) -> None:
    with pytest.raises(errors.TaskFailed) as failed:
        run(f"echo \"sh: can't open '/tmp/setup.sh': no such file\"; exit 2 # {command}", containers={"user": user})
    who = "you" if user == "caller" else f"user {user}"
    said = f"~ is not readable here because the task runs as {who}, with {home} for a home; try --user image."
    assert failed.value.hint == (said if home else "")


# --- for plug-ins ----------------------------------------------------------------------------------------------


def test_plug_ins_get_what_would_run_as_a_document(engine: Engine, state: LocalFSState) -> None:
    environment = {
        **ENVIRONMENT,
        "resources": ["CVMFS"],
        "env": {"A": "b"},
        "par_mounts": [{"mountpath": "/in/side", "mountcontent": "text"}],
    }
    job = {"script": "echo x", "interpreter": "sh"}
    log = logging.getLogger("test")
    spec = executors.race_spec(config(), state, environment, log, job)
    assert (spec["image"], spec["argv"], spec["stdin"]) == ("lab/base:1", ["sh", "-c", "sh"], "echo x")
    assert spec["env"] == [{"name": "A", "value": "b"}]
    work, file, cvmfs = spec["mounts"]
    assert (work["destination"], work["readonly"]) == (state.readwrite[0], False)
    assert Path(file["source"]).read_text() == "text"
    assert "propagation" not in file
    assert cvmfs == {
        "type": "bind",
        "source": "/cvmfs",
        "destination": "/cvmfs",
        "readonly": True,
        "propagation": None,
    }


def test_the_line_for_plug_ins_warns_of_the_identifier_of_an_earlier_run(
    engine: Engine, state: LocalFSState, workdir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log, metadata = logging.getLogger("test"), {"name": "t"}
    spec = executors.race_spec(config(), state, ENVIRONMENT, log, {"command": "true"})
    line = executors.docker_execution_cmdline(config(), state, log, metadata, spec)
    assert f"--cidfile {workdir}/_packtivity/t.cid" in line
    assert caplog.messages == []
    (workdir / "_packtivity").mkdir()
    (workdir / "_packtivity" / "t.cid").touch()
    assert executors.docker_execution_cmdline(config(), state, log, metadata, spec) == line
    assert caplog.messages == [
        f"cid file {workdir}/_packtivity/t.cid is there already, and docker will refuse to write it"
    ]


def test_a_task_without_directories_has_a_container_without_mounts() -> None:
    planned = container.plan(ExecutionConfig(), ENVIRONMENT, None, {"command": "true"})
    assert planned.mounts == ()


# --- resources -------------------------------------------------------------------------------------------------

UNREADABLE = [{"kubernetes_memory_limit": "8GB"}, {"kerberos": "true"}, "kerberos"]


def asking(resources: list[Any]) -> dict[str, Any]:
    return {**ENVIRONMENT, "resources": resources}


def test_resources_that_are_not_understood_have_no_effect_and_are_named(run: Any, state: LocalFSState) -> None:
    warned: list[Any] = []
    executors.run(
        ExecutionConfig({"logging_level": "CRITICAL", "containers": {"runtime": "docker"}}, warn=warned.append),
        asking(UNREADABLE),
        state,
        {"command": "true"},
        {"name": "t"},
    )
    assert [(one.code, one.path[2:], one.expected, one.hint) for one in warned] == [
        (
            "unreadable-resource",
            (0, "kubernetes_memory_limit"),
            "a quantity such as 512Mi or 4Gi",
            "Did you mean 8G?",
        ),
        ("unreadable-resource", (1, "kerberos"), "true or false", "Did you mean true?"),
        ("unknown-resource", (2,), "kerberos: true", "Write it as a mapping: [{kerberos: true}]."),
    ]
    assert "kubernetes_memory_limit: '8GB' cannot be read, and has no effect" in log(state, "step")


@pytest.mark.parametrize("word", ["Kerberos", "rucio ", "kubernetes_cpu_limits"])
def test_a_word_that_is_nearly_a_key_is_told_as_a_mapping(word: str) -> None:
    (found,) = findings([word])
    assert found.hint.startswith(f"Write it as a mapping: [{{{word.strip().lower().removesuffix('s')}")


@pytest.mark.parametrize("resources", [UNREADABLE[:1], UNREADABLE[1:2], UNREADABLE[2:]])
def test_they_are_errors_where_warnings_are(resources: list[Any], state: LocalFSState) -> None:
    with pytest.raises(errors.ParameterError, match=r"environment\.resources\[0\]") as caught:
        container.plan(ExecutionConfig(strict=True), asking(resources), state, {"command": "true"})
    assert caught.value.hint


@pytest.mark.parametrize(
    ("chosen", "resource", "said"),
    [
        ({"memory": "spec"}, {"kubernetes_memory_limit": "8GB"}, "kubernetes_memory_limit: '8GB' cannot be read"),
        ({"memory": "spec"}, {"kubernetes_memory_limit": "512m"}, "kubernetes_memory_limit: '512m' cannot be read"),
        ({"cpus": "spec"}, {"kubernetes_cpu_limit": "two"}, "kubernetes_cpu_limit: 'two' cannot be read"),
    ],
)
def test_a_limit_that_is_to_hold_and_cannot_be_read_is_an_error(
    chosen: dict[str, str], resource: dict[str, str], said: str, state: LocalFSState
) -> None:
    with pytest.raises(errors.ParameterError) as caught:
        container.plan(ExecutionConfig({"containers": chosen}), asking([resource]), state, {"command": "true"})
    assert caught.value.message == f"environment.resources[0].{said}"
    assert "Expected a quantity such as" in caught.value.hint
    others = {"cpus": "spec"} if "memory" in chosen else {"memory": "spec"}
    planned = container.plan(ExecutionConfig({"containers": others}), asking([resource]), state, {"command": "true"})
    assert planned.limits == Limits()


def test_a_limit_that_is_not_applied_is_in_the_step_log_and_an_error_where_warnings_are(
    run: Any, state: LocalFSState
) -> None:
    run("true", asking([{"kubernetes_cpu_limit": "500m"}]))
    assert "the spec limits what the task may use on Kubernetes" in log(state, "step")
    with pytest.raises(errors.ParameterError, match="the spec limits what the task may use") as caught:
        run("true", asking([{"kubernetes_cpu_limit": "500m"}]), strict=True)
    assert caught.value.hint == "To set it here as well: --cpus spec"


def test_a_credential_that_ends_soon_is_in_the_step_log_and_an_error_where_warnings_are(
    run: Any, state: LocalFSState, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import base64

    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + 300}).encode()).decode().rstrip("=")
    monkeypatch.setenv("BEARER_TOKEN", f"e30.{claims}.c2ln")
    monkeypatch.setenv("PACKTIVITY_AUTH_LOCATION", str(tmp_path))
    run("true", asking([{"rucio": True}]))
    assert "the bearer token expires in" in log(state, "step")
    with pytest.raises(errors.EnvironmentUnavailable, match="the bearer token expires in"):
        run("true", asking([{"rucio": True}]), strict=True)
