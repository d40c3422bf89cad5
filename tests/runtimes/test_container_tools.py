"""Choosing a tool, finding images, lock files and limits, with programs that only pretend."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from packtivity.errors import ConfigurationError, EnvironmentUnavailable, LoadError, ParameterError, TaskCancelled
from packtivity.handlers.config import ExecutionConfig, container_config
from packtivity.runtimes import image_store, images, process, supervise
from packtivity.runtimes.apptainer import Apptainer
from packtivity.runtimes.base import Host, Launch
from packtivity.runtimes.choose import choose, host, named
from packtivity.runtimes.containers import for_tool, outside, plan_container
from packtivity.runtimes.doctor import examine
from packtivity.runtimes.oci import Docker, docker_endpoint
from packtivity.runtimes.resources import read_limits, read_memory, read_quantity
from packtivity.runtimes.shell_lines import ascii_line
from packtivity.statecontexts import LocalFSState
from packtivity.types import Diagnostic, Execution, Limits, Mount

DIGEST = "sha256:" + "ab" * 32
IDENTIFIER = "sha256:" + "cd" * 32


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put shell programs on a PATH that has nothing else."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("PACKTIVITY_CACHE_DIR", str(tmp_path / "cache"))
    for variable in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "PACKTIVITY_CONTAINER_RUNTIME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def write(name: str, script: str) -> None:
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)

    return write


def test_nothing_here_names_all_that_was_tried(pretend: Any) -> None:
    with pytest.raises(EnvironmentUnavailable) as caught:
        choose(None)
    for tool in ("docker", "podman", "podman-hpc", "apptainer", "singularity", "udocker"):
        assert f"  {tool}: not installed" in caught.value.message
    assert "doctor" in caught.value.hint


def test_the_first_that_works_is_taken(pretend: Any, tmp_path: Path) -> None:
    pretend("docker", "exit 0")
    pretend("apptainer", "exit 0")
    (tmp_path / ".docker").mkdir()
    context = tmp_path / ".docker/contexts/meta/b9e4d9a3b5d1c0"
    assert docker_endpoint(dict(os.environ)) == "unix:///var/run/docker.sock"
    env = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/d.sock"}
    assert choose(None, env).name == "apptainer"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "d.sock"))
        server.listen()
        assert choose(None, env).name == "docker"
    assert not context.exists()


def test_the_one_asked_for_has_to_be_installed(pretend: Any) -> None:
    with pytest.raises(EnvironmentUnavailable, match="podman cannot be used: not installed") as absent:
        choose("podman")
    assert absent.value.hint.startswith("To install it: https://")
    with pytest.raises(ConfigurationError, match="unknown container tool 'dokcer'") as caught:
        choose("dokcer")
    assert "'docker'" in caught.value.hint


def test_the_one_asked_for_is_tried_and_its_failure_explained(pretend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend("docker", "echo cannot reach it >&2; exit 1")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    docker = choose("docker")
    watch = supervise.Supervision(say=lambda _: None, pull_log=lambda: nullcontext(None))
    for policy in ("missing", "never"):
        with pytest.raises(EnvironmentUnavailable) as down:
            supervise.find_image(docker, Execution((), image="a/b:1"), replace(watch, policy=policy))
        assert "docker: its daemon does not answer at /nowhere" in down.value.hint
        assert "packtivity doctor" in down.value.hint
    with pytest.raises(EnvironmentUnavailable, match="no container tool works here"):
        choose(None)


@pytest.mark.parametrize("how", ["a script", "a link"])
def test_podman_by_docker_s_name_is_podman(pretend: Any, tmp_path: Path, how: str) -> None:
    pretend("podman", "exit 0")
    if how == "a link":
        (tmp_path / "bin" / "docker").symlink_to(tmp_path / "bin" / "podman")
    else:
        pretend("docker", 'exec /usr/bin/podman "$@"')
    runtime = choose("docker")
    assert (runtime.name, runtime.program, runtime.host.rootless) == ("podman", "docker", os.getuid() != 0)
    pretend("docker" if how == "a script" else "other", "exec nothing # of podmanager")
    if how == "a script":
        assert choose("docker").name == "docker"


def test_each_tool_has_its_own_further_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACKTIVITY_DOCKER_CMD_MOD", "-u root")
    monkeypatch.setenv("PACKTIVITY_APPTAINER_CMD_MOD", "--cleanenv --env 'A=b c'")
    execution = plan_container({"command": "true"}, environment(), LocalFSState(["/w"]), ExecutionConfig())
    warned: list[Diagnostic] = []
    for tool in ("docker", "podman", "podman-hpc"):
        assert for_tool(execution, named(tool), warned.append).options == ("-u", "root")
    assert warned == []
    for tool in ("apptainer", "singularity"):
        assert for_tool(execution, named(tool), warned.append).options == ("--cleanenv", "--env", "A=b c")
    assert for_tool(execution, named("udocker"), warned.append).options == ()
    assert [warning.code for warning in warned] == ["option-ignored"] * 3
    assert "PACKTIVITY_APPTAINER_CMD_MOD" in warned[0].hint
    monkeypatch.setenv("PACKTIVITY_APPTAINER_CMD_MOD", "'open")
    with pytest.raises(ConfigurationError, match="PACKTIVITY_APPTAINER_CMD_MOD"):
        for_tool(execution, named("apptainer"), warned.append)


@pytest.mark.parametrize("tool", ["docker", "podman", "apptainer", "singularity", "udocker", "shifter"])
def test_a_user_that_a_tool_cannot_take_is_told(tool: str) -> None:
    execution = plan_container({"command": "true"}, environment(), LocalFSState(["/w"]), ExecutionConfig())
    runtime, warned = named(tool), list[Diagnostic]()
    for user in (None, "caller", str(runtime.host.uid), f"{runtime.host.uid}:0"):
        for_tool(execution, runtime, warned.append, user)
    assert warned == []
    for user in ("image", "4321", "4321:5"):
        for_tool(execution, runtime, warned.append, user)
    told = {"docker": 0, "podman": 0, "apptainer": 2, "singularity": 2}.get(tool, 3)
    assert [one.message for one in warned] == [
        f"--user {user} has no effect, because {tool} runs tasks as you"
        for user in ("image", "4321", "4321:5")[3 - told :]
    ]


SHORT = {
    "atlas/analysisbase:1": "docker.io/atlas/analysisbase:1",
    "busybox": "docker.io/library/busybox:latest",
    f"a/b@{DIGEST}": f"docker.io/a/b@{DIGEST}",
    "quay.io/a/b:1": None, "localhost/a:1": None, "registry:5000/a": None, "/cvmfs/x": None, "oci:/x": None,
}  # fmt: skip


@pytest.mark.parametrize(("short", "full"), SHORT.items())
def test_short_names_are_docker_s_on_podman_too(short: str, full: str | None) -> None:
    podman = named("podman")
    assert podman.names(short) == ((full, f"localhost/{short}") if full else (short,))
    assert named("docker").names(short) == (short,)


def test_podman_takes_what_was_built_here_before_it_pulls(pretend: Any, tmp_path: Path) -> None:
    pretend("podman", f'case $* in *" localhost/own:1") echo "{IDENTIFIER} []";; *) exit 1;; esac')
    podman = named("podman")
    found = image_store.fetch(podman, "own:1", "missing", never, never)
    assert (found.reference, found.run, found.digest) == ("own:1", "localhost/own:1", "")
    pulled: list[tuple[str, ...]] = []

    def pull(argv: tuple[str, ...], part: object, target: object) -> None:
        pulled.append(argv)
        pretend("podman", f"echo '{IDENTIFIER} [\"docker.io/a/b@{DIGEST}\"]'")

    found = image_store.fetch(podman, "a/b:1", "missing", pull, lambda _: None)
    assert (found.run, found.digest) == ("docker.io/a/b:1", DIGEST)
    assert pulled == [("podman", "pull", "docker.io/a/b:1")]


def test_a_tool_can_be_a_path(pretend: Any) -> None:
    assert named("/opt/bin/podman").remove_argv("x")[0] == "/opt/bin/podman"


def test_docker_contexts_are_followed(pretend: Any, tmp_path: Path) -> None:
    import hashlib

    meta = tmp_path / ".docker/contexts/meta" / hashlib.sha256(b"mine").hexdigest()
    meta.mkdir(parents=True)
    (tmp_path / ".docker/config.json").write_text('{"currentContext": "mine"}')
    socket_path = f"unix:///run/user/{os.getuid()}/docker.sock"
    (meta / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": socket_path}}}))
    assert docker_endpoint(dict(os.environ)) == socket_path
    assert host("docker", dict(os.environ)).rootless is (os.getuid() != 0)


def test_the_doctor_says_why_a_tool_does_not_work(pretend: Any) -> None:
    pretend("podman", 'echo podman version 4.9.3; test "$1" = --version || { echo Error: no space; exit 125; }')
    pretend("docker", "echo Docker version 28.0.1, build x")
    found = {finding.subject: finding for finding in examine({**os.environ, "DOCKER_HOST": "unix:///no"})["runtimes"]}
    assert (found["docker"].status, found["docker"].version) == ("broken", "28.0.1")
    assert "/no" in found["docker"].detail
    assert "DOCKER_HOST" in found["docker"].advice
    assert (found["podman"].status, found["podman"].version) == ("broken", "4.9.3")
    assert found["shifter"].status == "missing"
    assert found["shifter"].advice


def test_the_doctor_says_who_tasks_are(pretend: Any) -> None:
    pretend("apptainer", "echo apptainer version 1.4.5")
    found = {finding.subject: finding for finding in examine()["runtimes"]}
    assert found["apptainer"].tasks.startswith("you, with the home of the image's user where you may read it")
    assert found["podman"].tasks == ""  # which is not here
    rootless = Docker(Host(1, 1, "ada", rootless=True))
    assert (DOCKER.who(), rootless.who()) == (
        "the image's user, with that user's home",
        "root of the image, which is you outside, with root's home",
    )


def test_the_doctor_is_not_content_with_a_tool_that_works_when_another_is_asked_for(
    pretend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend("udocker", "echo version: 1.3.17")
    elsewhere = tmp_path / "elsewhere" / "udocker"
    for asked, default in ((None, "udocker"), ("docker", None), ("udokcer", None), (str(elsewhere), None)):
        if asked:
            monkeypatch.setenv("PACKTIVITY_CONTAINER_RUNTIME", asked)
        found = examine()
        assert (found["asked"], found["default"]) == (asked, default)
    monkeypatch.setenv("PACKTIVITY_CONTAINER_RUNTIME", "auto")
    assert examine()["default"] == "udocker"
    monkeypatch.setenv("PACKTIVITY_CONTAINER_RUNTIME", str(elsewhere))
    elsewhere.parent.mkdir()
    elsewhere.symlink_to(tmp_path / "bin" / "udocker")
    assert examine()["default"] == str(elsewhere)


# --- images ----------------------------------------------------------------------------------------------------

DOCKER = Docker(Host(1, 1, "ada"))


def never(*_: object) -> None:
    raise AssertionError


def test_a_note_is_kept_and_forgotten(pretend: Any, tmp_path: Path) -> None:
    pretend("docker", f"echo '{IDENTIFIER} [\"a/b@{DIGEST}\"]'")
    found = image_store.fetch(DOCKER, "a/b:1", "missing", never, never)
    assert (found.digest, found.is_fresh) == (DIGEST, True)
    assert image_store.read_note(DOCKER, "a/b:1") == found
    image_store.forget(DOCKER, "a/b:1")
    image_store.forget(DOCKER, "a/b:1")
    assert image_store.read_note(DOCKER, "a/b:1") is None
    Path(image_store.note_path(DOCKER, "a/b:1")).write_text("{broken")
    assert image_store.read_note(DOCKER, "a/b:1") is None


@pytest.mark.parametrize(
    "warning", ["WARNING: Error loading config file: permission denied", "time=now level=warning msg=x"]
)
def test_a_warning_does_not_hide_the_digest(pretend: Any, warning: str) -> None:
    pretend("docker", f"echo '{warning}' >&2; echo '{IDENTIFIER} [\"a/b@{DIGEST}\"]'; echo '{warning}' >&2")
    found = image_store.fetch(DOCKER, "a/b:1", "missing", never, never)
    assert (found.identifier, found.digest) == (IDENTIFIER, DIGEST)


def test_an_image_is_pulled_once_and_only_if_missing(pretend: Any, tmp_path: Path) -> None:
    mark = tmp_path / "here"
    pretend("docker", f"[ -e {mark} ] && echo '{IDENTIFIER} null' || exit 1")
    pulled: list[tuple[str, ...]] = []

    def pull(argv: tuple[str, ...], part: object, target: object) -> None:
        pulled.append(argv)
        mark.touch()

    said: list[str] = []
    for _ in range(2):
        assert image_store.fetch(DOCKER, "a:1", "missing", pull, said.append).digest == ""
    assert pulled == [("docker", "pull", "a:1")]
    assert said == ["pulling a:1"]
    mark.unlink()
    with pytest.raises(EnvironmentUnavailable, match="pulling is disabled"):
        image_store.fetch(DOCKER, "a:1", "never", pull, never)


def test_waiting_for_another_pull_of_the_image_can_be_cancelled(pretend: Any) -> None:
    pretend("docker", "exit 1")
    path = Path(image_store.note_path(DOCKER, "a:1") + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    said: list[str] = []
    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TaskCancelled):
            image_store.fetch(DOCKER, "a:1", "missing", never, said.append, lambda: True)
    assert said == ["waiting for a pull of a:1"]


def test_a_cache_on_a_file_system_without_locks_is_good_enough(pretend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    pretend("docker", "exit 1")
    with pytest.raises(EnvironmentUnavailable, match="yet does not have it"):
        image_store.fetch(DOCKER, "a:1", "missing", lambda *_: None, lambda _: None)


def test_lock_files_are_merged_and_checked(tmp_path: Path) -> None:
    path = str(tmp_path / "l")
    images.write_lock(path, {"a:1": DIGEST})
    images.write_lock(path, {"b:1": DIGEST})
    assert images.read_lock(path) == {"a:1": DIGEST, "b:1": DIGEST}
    with pytest.raises(LoadError, match="packtivity lock SPEC"):
        images.read_lock(str(tmp_path / "none"))
    for junk in (
        "",
        "[]",
        '{"version": 2, "images": {}}',
        '{"version": 1, "images": {"a": 1}}',
        '{"version": 1, "images": []}',
    ):
        Path(path).write_text(junk)
        with pytest.raises(LoadError, match="is not a lock file") as caught:
            images.read_lock(path)
        assert caught.value.hint.startswith("Remove it")  # packtivity lock reads it, too
    made_here = images.Image("a:1", "a:1", "", "sha256:1", seen=time.time())
    with pytest.raises(EnvironmentUnavailable, match="cannot be locked"):
        images.digest_of(made_here, DOCKER)


# --- settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), ("1k", 1024), ("2G", 2 << 30), ("1.5GiB", 3 << 29), ("64Mi", 64 << 20), ("10 MB", 10 << 20)],
)
def test_memory(text: str, size: int) -> None:
    assert read_memory(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "1X", "inf", "nan", "1e400"])
def test_what_is_no_amount_of_memory(text: str) -> None:
    with pytest.raises(ConfigurationError):
        read_memory(text)


def test_limits() -> None:
    assert read_limits("1.5", "1G", "0,1") == Limits(1.5, 1 << 30, "0,1")
    assert read_limits(None, None, "") == Limits()
    for cpus, gpus in (("x", None), ("0", None), (None, "--privileged"), (None, "a b")):
        with pytest.raises(ConfigurationError):
            read_limits(cpus, None, gpus)


@pytest.mark.parametrize(
    ("written", "amount"),
    [("256Mi", 256 << 20), ("2G", 2 * 10**9), ("500m", Fraction(1, 2)), ("1e3", 1000), (2, 2), (0.5, Fraction(1, 2)),
     ("1.5Gi", 3 << 29), ("100k", 100_000), ("1E", 10**18)],
)  # fmt: skip
def test_amounts_as_kubernetes_writes_them(written: object, amount: object) -> None:
    assert read_quantity(written) == amount


@pytest.mark.parametrize("written", [None, True, "", "0", "-1", "x", "2MB", "1e9999", "64 Mi", "\u0663"])
def test_what_is_no_amount_for_kubernetes(written: object) -> None:
    assert read_quantity(written) is None


def test_the_limits_of_a_spec_hold_where_they_are_asked_for() -> None:
    spec = Limits(cpus=2.0, memory=256 << 20)
    assert read_limits("spec", "spec", None, spec) == spec
    assert read_limits(None, "1G", None, spec) == Limits(memory=1 << 30)
    assert read_limits("spec", "spec", None) == Limits()


def test_choices_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACKTIVITY_CONTAINER_RUNTIME", "podman")
    monkeypatch.setenv("PACKTIVITY_MEMORY", "1G")
    assert container_config().runtime() == "podman"
    assert container_config({"runtime": "docker", "memory": "2G"}).limits().memory == 2 << 30
    assert container_config({"runtime": "auto"}).runtime() is None
    assert container_config({"network": "default"}).network() is None
    for wrong in ({"user": "root; id"}, {"user": "1:x"}):
        with pytest.raises(ConfigurationError):
            container_config(wrong).user()
    with pytest.raises(ConfigurationError, match="missing, always, never"):
        container_config({"pull": "perhaps"}).pull_policy()
    monkeypatch.setenv("PACKTIVITY_DOCKER_NOPULL", "1")
    assert container_config({"pull": "always"}).pull_policy() == "never"


def environment(**more: Any) -> dict[str, Any]:
    return {"environment_type": "docker-encapsulated", "image": "a", "imagetag": "1", **more}


def test_cvmfs_by_volume_and_unknown_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    state, config = LocalFSState(["/w"]), ExecutionConfig()
    monkeypatch.setenv("PACKTIVITY_CVMFS_SOURCE", "voldriver")
    monkeypatch.setenv("PACKTIVITY_CVMFS_REPOS", "[sft.cern.ch]")
    plan = plan_container({"command": "true"}, environment(resources=["CVMFS"]), state, config)
    assert plan.mounts[1:] == (Mount("sft.cern.ch", "/cvmfs/sft.cern.ch", True, "volume"),)
    monkeypatch.setenv("PACKTIVITY_CVMFS_SOURCE", "magic")
    with pytest.raises(ConfigurationError, match="external, voldriver"):
        plan_container({"command": "true"}, environment(resources=["CVMFS"]), state, config)


def test_a_daemon_outside_has_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outside("/in/x", "/in:/out") == "/out/x"
    assert outside("/in", "/in/:/out/") == "/out"
    assert outside("/inner", "/in:/out") == "/inner"
    with pytest.raises(ConfigurationError):
        outside("/in", "/in")
    monkeypatch.setenv("PACKTIVITY_WORKDIR_LOCATION", "/in:/out")
    plan = plan_container({"command": "true"}, environment(), LocalFSState(["/in/w"], ["/ro"]), ExecutionConfig())
    assert plan.mounts == (Mount("/out/w", "/in/w"), Mount("/ro", "/ro", readonly=True))


def test_what_cannot_be_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    state, config = LocalFSState(["/w"]), ExecutionConfig()
    for wrong in ({"workdir": "relative"}, {"env": {"A=B": "1"}}, {"env": {"": "1"}}, {"env": {"A": "\0"}}):
        with pytest.raises(ParameterError):
            plan_container({"command": "true"}, environment(**wrong), state, config)
    monkeypatch.setenv("PACKTIVITY_DOCKER_CMD_MOD", "'open")
    with pytest.raises(ConfigurationError, match="PACKTIVITY_DOCKER_CMD_MOD"):
        plan_container({"command": "true"}, environment(), state, config)


def test_the_line_for_a_shell_is_ascii_whatever_is_in_it() -> None:
    import subprocess

    argv = ("printf", "%s|%s", "é $(id) 'x'\ny", "plain")
    line = ascii_line(argv)
    assert line.isascii()
    assert "\n" not in line
    assert subprocess.run(["sh", "-c", line], capture_output=True, check=True).stdout.decode() == "é $(id) 'x'\ny|plain"
    import shlex

    assert subprocess.run(shlex.split(line), capture_output=True, check=True).stdout.decode() == "é $(id) 'x'\ny|plain"


def test_nothing_stands_in_front_of_the_tool_in_the_line() -> None:
    execution = Execution(("sh",), env={"A": "x\ry"}, image="a:1", tty=True)
    assert DOCKER.run_argv(execution, Launch("a:1"))[:2] == ("docker", "run")


# --- a person's container --------------------------------------------------------------------------------------


def test_a_secret_that_a_person_s_container_gets_is_in_no_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEARER_TOKEN", "quite.a.secret")
    seen: list[Any] = []
    monkeypatch.setattr(process, "attach", lambda argv, env: seen.extend((argv, env)) or 3)
    watch = supervise.Supervision(say=never, pull_log=never)
    execution = Execution(("sh",), image=str(tmp_path), pass_env=("BEARER_TOKEN",), image_dirs=(str(tmp_path),))
    assert supervise.attach_container(Apptainer(Host(1, 1, "ada")), execution, watch) == 3
    argv, env = seen
    assert env == {"APPTAINERENV_BEARER_TOKEN": "quite.a.secret"}
    assert "quite.a.secret" not in " ".join(argv)
