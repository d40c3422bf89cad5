"""The arguments of every container tool, without any of them being here."""

from __future__ import annotations

import csv
import shlex
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from packtivity.errors import EnvironmentUnavailable, ParameterError
from packtivity.runtimes.apptainer import Apptainer, Singularity
from packtivity.runtimes.base import Host, Launch, Runtime, mount_value
from packtivity.runtimes.hpc import Shifter, Udocker
from packtivity.runtimes.oci import Docker, Podman, PodmanHPC
from packtivity.types import Execution, Limits, Mount

HOST = Host(1000, 100, "ada")
TASK = Execution(
    ("sh", "-c", "echo 'a b'"),
    stdin=b"input",
    workdir="/w d",
    env={"A": "1 $x"},
    image="img:1",
    mounts=(Mount("/w d", "/w d"), Mount("/in", "/in", readonly=True)),
)
LAUNCH = Launch("img:1", "packtivity-x", "/tmp/scratch")


def argv(kind: type[Runtime], execution: Execution = TASK, host: Host = HOST, launch: Launch = LAUNCH) -> str:
    return shlex.join(kind(host).run_argv(execution, launch))


AS_CALLER = replace(TASK, user="caller")


def test_docker() -> None:
    assert argv(Docker) == (
        "docker run --rm -i --name packtivity-x --pull never --init --env 'A=1 $x' --workdir '/w d' "
        "--mount 'type=bind,source=/w d,destination=/w d' "
        "--mount type=bind,source=/in,destination=/in,readonly img:1 sh -c 'echo '\"'\"'a b'\"'\"''"
    )


def test_docker_as_the_caller() -> None:
    assert argv(Docker, AS_CALLER) == (
        "docker run --rm -i --name packtivity-x --pull never --init --user 1000:100 --env HOME=/tmp --env USER=ada "
        "--env 'A=1 $x' --workdir '/w d' --mount 'type=bind,source=/w d,destination=/w d' "
        "--mount type=bind,source=/in,destination=/in,readonly img:1 sh -c 'echo '\"'\"'a b'\"'\"''"
    )


def test_podman_by_an_ordinary_user_keeps_the_user() -> None:
    line = argv(Podman, AS_CALLER, Host(1000, 100, "ada", init=False, rootless=True))
    assert line.startswith("podman run --rm -i --name packtivity-x --pull never --userns=keep-id --env HOME=/tmp ")


def test_rootless_podman_maps_the_caller_to_the_image_s_own_user() -> None:
    host = Host(1000, 100, "ada", init=False, rootless=True)
    root = argv(Podman, host=host)
    assert "userns" not in root
    assert "HOME" not in root
    atlas = argv(Podman, host=host, launch=replace(LAUNCH, user="500:0"))
    assert "--userns=keep-id:uid=500,gid=500 --user=500:0 --env 'A=1 $x'" in atlas


def test_podman_hpc_is_podman_with_its_own_way_to_gpus() -> None:
    rootless = Host(1000, 100, "ada", init=False, rootless=True)
    task = Execution(("true",), image="img:1", limits=Limits(gpus="all"), user="caller")
    assert argv(PodmanHPC, task, rootless) == (
        "podman-hpc run --rm --name packtivity-x --pull never --userns=keep-id --env HOME=/tmp --env USER=ada --gpu "
        "img:1 true"
    )


def test_apptainer_sets_variables_where_no_shell_reads_them() -> None:
    assert argv(Apptainer) == (
        "apptainer --quiet exec --containall --workdir /tmp/scratch --pwd '/w d' "
        "--mount 'type=bind,source=/w d,destination=/w d' --mount type=bind,source=/in,destination=/in,ro img:1 "
        """sh -c 'export USER="${1}"; export A="${2}"; shift 2; exec "$@"' sh ada '1 $x' """
        "sh -c 'echo '\"'\"'a b'\"'\"''"
    )


def test_singularity_is_apptainer_by_another_name() -> None:
    assert argv(Singularity) == argv(Apptainer).replace("apptainer", "singularity", 1)


def test_udocker() -> None:
    assert argv(Udocker) == (
        "udocker --quiet run --rm --nobanner --user=ada '--workdir=/w d' '--volume=/w d:/w d' --volume=/in:/in:ro img:1 "
        """sh -c 'export A="${1}"; shift 1; exec "$@"' sh '1 $x' sh -c 'echo '\"'\"'a b'\"'\"''"""
    )


def test_shifter() -> None:
    assert argv(Shifter, Execution(("true",), image="img:1", mounts=TASK.mounts, workdir="/in")) == (
        "shifter --image=docker:img:1 --workdir=/in '--volume=/w d:/w d' --volume=/in:/in:ro -- true"
    )


@pytest.mark.parametrize(
    ("kind", "user", "expected"),
    [
        (Docker, "500", "--user 500:100"),
        (Docker, "500:7", "--user 500:7"),
        (Podman, "500", "--user 500:100"),
    ],
)
def test_another_user(kind: type[Runtime], user: str, expected: str) -> None:
    assert expected in argv(kind, Execution(("true",), user=user, image="i"))


def test_rootless_podman_maps_the_caller_to_the_user_asked_for() -> None:
    line = argv(Podman, Execution(("true",), user="500", image="i"), Host(1000, 100, "ada", rootless=True))
    assert "--userns=keep-id:uid=500,gid=500 --user=500:500" in line


def test_rootless_docker_runs_as_root_which_is_the_caller() -> None:
    assert "--user 0:0" in argv(Docker, host=Host(1000, 100, "ada", rootless=True))


def test_the_image_s_own_user_has_its_own_home() -> None:
    line = argv(Docker, Execution(("true",), user="image", image="i"))
    assert "--user" not in line
    assert "HOME" not in line


@pytest.mark.parametrize(
    ("kind", "limits", "expected"),
    [
        (Docker, Limits(1.5, 2**30, None), "--cpus=1.5 --memory=1073741824 --memory-swap=1073741824"),
        (Docker, Limits(gpus="all"), "--gpus=all"),
        (Docker, Limits(gpus="0,1"), """'--gpus="device=0,1"'"""),
        (Podman, Limits(gpus="2"), "--device=nvidia.com/gpu=0 --device=nvidia.com/gpu=1"),
        (Podman, Limits(gpus="all"), "--device=nvidia.com/gpu=all"),
        (Apptainer, Limits(2, 2**20, "all"), "--cpus 2 --memory 1048576 --memory-swap 1048576 --nv"),
    ],
)
def test_limits(kind: type[Runtime], limits: Limits, expected: str) -> None:
    assert expected in argv(kind, Execution(("true",), limits=limits, image="i"))


def test_apptainer_gives_the_gpus_that_are_here() -> None:
    two = Execution(("true",), limits=Limits(gpus="2"), image="i")
    line = argv(Apptainer, two)
    assert " --nv " in line
    assert "CUDA_VISIBLE_DEVICES" in line
    assert "0,1" in line
    assert " --rocm " in argv(Apptainer, two, Host(1000, 100, "ada", gpu="amd"))
    with pytest.raises(EnvironmentUnavailable, match="there is none here"):
        argv(Apptainer, two, Host(1000, 100, "ada", gpu=""))


@pytest.mark.parametrize(
    ("kind", "network", "expected"),
    [
        (Docker, "none", "--network=none"),
        (Docker, "host", "--network=host"),
        (Podman, "mine", "--network=mine"),
        (Apptainer, "none", "--net --network none"),
    ],
)
def test_networks(kind: type[Runtime], network: str, expected: str) -> None:
    assert expected in argv(kind, Execution(("true",), network=network, image="i"))
    assert "net" not in argv(kind, Execution(("true",), network="default", image="i")).replace(kind.name, "")


@pytest.mark.parametrize(
    ("kind", "execution"),
    [
        (Apptainer, Execution(("true",), network="mine")),
        (Apptainer, Execution(("true",), mounts=(Mount("sft.cern.ch", "/cvmfs/sft.cern.ch", True, "volume"),))),
        (Udocker, Execution(("true",), network="none")),
        (Udocker, Execution(("true",), limits=Limits(memory=1))),
        (Shifter, Execution(("true",), limits=Limits(cpus=1))),
        (Shifter, Execution(("true",), mounts=(Mount("sft.cern.ch", "/cvmfs/sft.cern.ch", True, "volume"),))),
    ],
)
def test_what_a_tool_cannot_do_it_refuses_with_a_way_out(kind: type[Runtime], execution: Execution) -> None:
    with pytest.raises(EnvironmentUnavailable) as caught:
        kind(HOST).run_argv(execution, LAUNCH)
    assert caught.value.message.startswith(f"{kind.name} cannot ")
    assert caught.value.hint


def test_volumes_and_selinux_need_labels_switched_off() -> None:
    volume = Execution(("true",), mounts=(Mount("sft.cern.ch", "/cvmfs/sft.cern.ch", True, "volume"),))
    assert "--security-opt label=disable" in argv(Docker, volume)
    assert "type=volume,source=sft.cern.ch,destination=/cvmfs/sft.cern.ch,readonly" in argv(Docker, volume)
    assert "--security-opt label=disable" in argv(Podman, host=Host(0, 0, "root", selinux=True))
    assert "label" not in argv(Podman)


def test_extra_options_and_passed_variables() -> None:
    task = Execution(("true",), image="i", options=("--shm-size", "1g"), pass_env=("TOKEN",))
    assert "--env TOKEN" in argv(Docker, task)
    assert "--shm-size 1g" in argv(Docker, task)
    assert Apptainer(HOST).client_env(task, {"TOKEN": "a.b-c"}) == {"APPTAINERENV_TOKEN": "a.b-c"}
    with pytest.raises(ParameterError, match="TOKEN"):
        Apptainer(HOST).client_env(task, {"TOKEN": "$(id)"})


def test_a_folder_is_an_image_for_podman_and_apptainer() -> None:
    folder = Launch("/cvmfs/unpacked.cern.ch/x/y:1")
    assert "--rootfs /cvmfs/unpacked.cern.ch/x/y:1:O sh" in argv(Podman, launch=folder)
    assert "/cvmfs/unpacked.cern.ch/x/y:1 sh" in argv(Apptainer, launch=folder)


def test_variables_that_no_shell_can_set_are_refused() -> None:
    with pytest.raises(ParameterError, match="'a-b'"):
        Apptainer(HOST).run_argv(Execution(("true",), env={"a-b": "1"}), LAUNCH)


# --- mounts ----------------------------------------------------------------------------------------------------


def understood(value: str) -> dict[str, Any]:
    """Read the value of --mount as the tools do: one line of CSV, fields cut at the first =."""
    (fields,) = csv.reader([value], strict=True) if "\n" not in value else [next(csv.reader(value.splitlines(True)))]
    return dict(field.partition("=")[::2] for field in fields)


@given(st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]), min_size=1))
@example('a"b')
@example("a,readonly")
@example("a\nb")
@example(" a")
@example('"')
def test_every_path_survives_the_syntax_of_mounts(name: str) -> None:
    path = f"/data/{name}"
    read = understood(mount_value(Mount(path, path, readonly=True)))
    assert read == {"type": "bind", "source": path, "destination": path, "readonly": ""}


def test_a_path_that_cannot_be_written_is_refused_by_name() -> None:
    with pytest.raises(ParameterError, match=r"a\\r\\nb"):
        mount_value(Mount("/a\r\nb", "/x"))
    with pytest.raises(ParameterError, match="a:b"):
        Udocker(HOST).run_argv(Execution(("true",), mounts=(Mount("/a:b", "/a:b"),)), LAUNCH)
    with pytest.raises(ParameterError, match="a;b"):
        Shifter(HOST).run_argv(Execution(("true",), mounts=(Mount("/a;b", "/a;b"),)), LAUNCH)
