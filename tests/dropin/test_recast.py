"""recast-atlas runs its analyses and its tests on this package."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from needs import need_engine

HERE = Path(__file__).resolve().parent


@pytest.fixture
def recast(world, tmp_path):
    """Call recast in a folder of its own."""
    programs = world() / "bin"
    if not (programs / "recast").exists():
        pytest.skip(f"there is no recast in {programs.parent.name}")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PACKTIVITY_", "RECAST_"))}
    environment = {
        **kept,
        "PATH": f"{HERE / 'bin'}:{programs}:{os.environ['PATH']}",
        "RECAST_ATLAS_CATALOGUE": str(HERE / "recast"),
        "RECAST_DEFAULT_RUN_BACKEND": "local",
        "RECAST_LOCAL_BACKENDSTRING": "multiproc:2",
    }

    def call(*arguments, **more):
        return subprocess.run(
            [programs / "recast", *arguments],
            cwd=tmp_path,
            env={**environment, **more},
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return call


@pytest.mark.parametrize("backend", ["multiproc:2", "foregroundasync"])
def test_an_analysis_runs_and_its_results_are_told(backend, recast, tmp_path):
    done = recast("run", "testing/counting", "--tag", "one", RECAST_LOCAL_BACKENDSTRING=backend)
    assert done.returncode == 0, done.stderr
    assert (
        "RECAST result testing/counting recast-one:\n--------------\n- name: number of words\n  value: 8" in done.stdout
    )
    assert (tmp_path / "recast-one" / "count" / "_packtivity" / "count.run.log").exists()


def test_an_analysis_that_fails_says_so(recast):
    done = recast("run", "testing/counting", "--example", "failing")
    assert done.returncode == 1
    assert "Workflow failed" in done.stderr


def test_a_test_succeeds_and_leaves_the_log_that_is_read(recast, tmp_path):
    done = recast("tests", "run", "testing/counting", "counts", "--tag", "two")
    assert done.returncode == 0, done.stderr
    assert "test counts succeeded" in done.stdout
    assert (tmp_path / "recast-test-two" / "count.txt").read_text().strip() == "3"
    assert (tmp_path / "recast-test-two" / "_packtivity" / "packtivity_syncbackend.run.log").exists()


def test_a_test_that_fails_is_a_failed_test_and_no_crash(recast):
    done = recast("tests", "run", "testing/counting", "fails")
    assert done.returncode == 1
    assert "test fails failed" in done.stdout
    assert "Traceback" not in done.stderr


def test_tests_are_listed(recast):
    done = recast("tests", "ls", "testing/counting")
    assert [line.split()[1] for line in done.stdout.splitlines()[1:]] == ["counts", "fails", "contained"]


@pytest.fixture
def docker():
    """Variables for a Docker with an image called busybox, where the container engines of the tests are there."""
    setup = HERE.parent.parent / "tools" / "setup-engines.sh"
    need_engine(Path("/var/lib/packtivity-engines/run").is_dir(), "what the container engines need")
    text = subprocess.run([setup, "env"], capture_output=True, text=True, check=True).stdout
    engines = dict(item.split("=", 1) for item in text.removeprefix("export ").split())
    variables = {"DOCKER_HOST": engines["DOCKER_HOST"]}
    image = f"{engines['PACKTIVITY_TEST_REGISTRY']}/test/busybox:1.0"
    for command in (["pull", "-q", image], ["tag", image, "busybox:latest"]):
        subprocess.run(["docker", *command], env={**os.environ, **variables}, capture_output=True, check=True)
    return {**variables, "PACKTIVITY_CONTAINER_RUNTIME": "docker", "PACKTIVITY_DOCKER_NOPULL": "1"}


def test_the_example_that_recast_makes_runs_in_its_container(recast, docker, tmp_path):
    assert recast("catalogue", "create", "mine/hello", "mine").returncode == 0
    done = recast("run", "mine/hello", "--tag", "hello", RECAST_ATLAS_CATALOGUE=str(tmp_path / "mine"), **docker)
    assert done.returncode == 0, done.stderr
    step = tmp_path / "recast-hello" / "hello_world"
    assert (step / "hello_world.txt").read_text() == "Hello my Name is hello\n"
    assert "| Hello my Name is hello\n" in (step / "_packtivity" / "hello_world.run.log").read_text()


def test_access_to_an_image_is_found_in_the_log(recast, docker):
    login = {"RECAST_REGISTRY_USERNAME": "me"}
    done = recast("auth", "check-access-image", "busybox:latest", "--backend", "local", **login, **docker)
    assert done.returncode == 0, done.stderr
    assert "Access: ok" in done.stdout


def test_the_line_for_a_shell_is_one_line_of_ascii(recast, docker):
    done = recast("tests", "shell", "testing/counting", "contained", "--tag", "three", **docker)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.strip().splitlines()
    assert line.isascii()
    argv = shlex.split(line)
    assert argv[1:5] == ["run", "--rm", "-i", "-t"]
    assert argv[-2:] == ["busybox:latest", "sh"]
