"""What is said of a run that failed: what ran, the likely cause, and the place to look."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from packtivity.api import pack_object
from packtivity.errors import MissingOutput, TaskFailed
from packtivity.handlers.config import ExecutionConfig
from packtivity.handlers.endings import check, eaten, went_on
from packtivity.handlers.execution_handlers import run
from packtivity.types import Completed, Execution, Mount

if TYPE_CHECKING:
    from packtivity.statecontexts import LocalFSState

LOCAL = {"environment_type": "localproc-env"}
QUIET = ExecutionConfig({"logging_level": "CRITICAL"})
SHELLS = {"dash": "dash", "bash": "bash", "busybox": "busybox sh"}


def failure(state: LocalFSState, script: str, interpreter: str = "") -> TaskFailed:
    job: Any = {"script": script, "interpreter": interpreter} if interpreter else {"command": script}
    with pytest.raises(TaskFailed) as caught:
        run(QUIET, LOCAL, state, job, {"name": "t"})
    return caught.value


def planned(code: int, output: str = "", **execution: Any) -> TaskFailed:
    """Return the error of a run of which only its end is known."""
    execution.setdefault("argv", ("sh", "-c", "./fit"))
    with pytest.raises(TaskFailed) as caught:
        check(Execution(**execution), Completed(code, 0.0, 0.0, tail=output.encode()), None)
    return caught.value


@pytest.mark.parametrize(
    ("script", "interpreter", "named"),
    [
        ("cat nothing", "sh", "script (sh): cat nothing"),
        ("#!/bin/sh\nset -eu\n\n  # look\ncat nothing\necho x\n", "sh", "script (sh): cat nothing …"),
        ("set -e\nfalse; exit 2", "bash -u", "script (bash -u): false; exit 2"),
        ("raise SystemExit(2)", "python3 -", "script (python3 -): raise SystemExit(2)"),
        ("# nothing but this\nset -x; exit 2", "sh", "script (sh): # nothing but this …"),
        ("cat nothing", "", "cat nothing"),
    ],
)
def test_what_failed_is_named_by_its_first_command(
    script: str, interpreter: str, named: str, state: LocalFSState
) -> None:
    message = str(failure(state, script, interpreter)).splitlines()[0]
    assert message.partition(": ")[2] == named


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    line = SHELLS[request.param]
    if shutil.which(line.split()[0]) is None:
        pytest.skip(f"no {request.param} here")
    return line


@pytest.fixture
def programs(workdir: Path) -> Path:
    (workdir / "plain").write_text("x")
    (workdir / "folder").mkdir()
    texts = {"orphan": "#!/no/such/python\n", "windows": "#!/bin/sh\r\necho\r\n", "foreign": "\x7fELF\x02\x01\x01 x"}
    for name, text in texts.items():
        (workdir / name).write_bytes(text.encode())
        (workdir / name).chmod(0o755)
    return workdir


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("no-such-program --all", 127, "did not find no-such-program: is it installed here, and on the PATH?"),
        ("./absent 3", 127, "There is no file {w}/./absent; paths such as ./x begin in"),
        ("/no/such/fit", 127, "There is no file /no/such/fit"),
        ("./orphan", 127, "{w}/./orphan is run by '/no/such/python', as its first line says: is that there?"),
        ("./windows", 127, "Lines of {w}/./windows end as on Windows"),
        ("./plain", 126, "{w}/./plain is not executable: chmod +x"),
        ("./folder", 126, "{w}/./folder is a directory."),
    ],
)
@pytest.mark.parametrize("as_script", [True, False])
def test_a_program_that_did_not_run_is_explained_whatever_the_shell(
    line: str, code: int, said: str, as_script: bool, shell: str, programs: Path, state: LocalFSState
) -> None:
    script = f"echo first\n{line}\n"
    error = failure(state, script, shell) if as_script else failure(state, f"{shell} -c '{line}'")
    assert error.returncode == code
    assert said.format(w=programs) in error.hint


@pytest.mark.parametrize("shell_line", ["dash", "bash"])
def test_a_program_for_another_machine_is_explained(shell_line: str, programs: Path, state: LocalFSState) -> None:
    error = failure(state, "./foreign", shell_line)
    assert error.returncode == 126
    assert "foreign is there, and cannot be run: is it built for this kind of machine" in error.hint


def test_in_an_image_what_is_shared_is_looked_at_and_the_rest_asked_about(programs: Path) -> None:
    image: dict[str, Any] = {"image": "lab/base:1", "workdir": str(programs)}
    missing = "sh: ./absent: not found\n"
    shared = (Mount(str(programs), str(programs)),)
    assert f"There is no file {programs}/./absent" in planned(127, missing, mounts=shared, **image).hint
    unseen = planned(127, "sh: /opt/fit: not found\n", mounts=shared, **image).hint
    assert unseen.startswith("Is there a file /opt/fit in the image lab/base:1, and the program that its first line")
    assert "Is there a file ./absent in the image" in planned(127, missing, image="lab/base:1").hint
    assert "in the image lab/base:1 could not be run" in planned(126, "sh: /opt/fit: Permission denied", **image).hint
    found = planned(127, "sh: fit: not found\n", **image).hint
    assert found == "The shell did not find fit: is it installed in the image lab/base:1, and on the PATH?"


def test_what_a_task_has_put_in_a_programs_place_is_not_opened(programs: Path, state: LocalFSState) -> None:
    os.mkfifo(programs / "pipe")
    (programs / "link").symlink_to("/etc/passwd")
    for name in ("pipe", "link"):
        error = planned(127, f"sh: ./{name}: not found\n", workdir=str(programs))
        assert error.hint.startswith(f"Is there a file {programs}/./{name} here")


def test_links_of_a_task_in_a_container_lead_to_no_other_files(tmp_path: Path, programs: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "fit").write_text("#!/of/somebody/else\n")
    (tmp_path / "private" / "fit").chmod(0o755)
    (programs / "out").symlink_to(tmp_path / "private")
    shared = (Mount(str(programs), str(programs)),)
    error = planned(127, "sh: out/fit: not found\n", image="a:1", workdir=str(programs), mounts=shared)
    assert error.hint.startswith(f"Is there a file {programs}/out/fit in the image a:1")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (137, "Exit code 137 of a shell: a program that it ran got SIGKILL. Nothing but the system or a person"),
        (143, "Exit code 143 of a shell: a program that it ran got SIGTERM. A batch system whose time was over"),
        (139, "got SIGSEGV. It crashed; the last output may tell why."),
        (132, "It may be built for another CPU than this one."),
        (141, "`head`"),
        (-9, "often memory ran out"),
        (-11, "It crashed"),
        (-15, "A batch system whose time was over"),
        (1, ""),
        (128, ""),
        (200, ""),
        (255, ""),
    ],
)
def test_a_signal_is_explained_also_as_a_shell_reports_it(code: int, said: str) -> None:
    hint = planned(code).hint
    assert said in hint
    assert bool(hint) == bool(said)


def test_a_child_killed_under_a_shell_is_explained(state: LocalFSState) -> None:
    error = failure(state, "sh -c 'kill -KILL $$'\n", "sh")
    assert error.returncode == 137
    assert "often memory ran out" in error.hint


@pytest.mark.parametrize(
    ("script", "interpreter", "is_said"),
    [
        ("false\necho x", "sh", True),
        ("cd /nowhere; touch out", "", True),
        ("false\necho x", "/bin/bash", True),
        ("set -e\necho x", "sh", False),
        ("set -uex\necho x", "sh", False),
        ("set -o errexit\necho x", "bash", False),
        ("set -u -e\necho x", "bash", False),
        ("echo x\necho y", "bash -e", False),
        ("echo x\necho y", "bash -euo pipefail", False),
        ("echo x\necho y", "source /dev/null && bash -e", False),
        ("echo x\necho y", "python3 -", False),
        ("false && echo x", "", False),
        ("echo one-line", "sh", False),
        ("echo 'set -e'\nfalse", "sh", True),
        ("set +e\nfalse", "sh", True),
    ],
)
def test_a_script_that_goes_on_after_a_failing_line_is_known(script: str, interpreter: str, is_said: bool) -> None:
    stdin = script.encode() if interpreter else None
    execution = Execution(("sh", "-c", interpreter or script), stdin)
    assert bool(went_on(execution)) is is_said


def test_nothing_is_said_where_nothing_was_planned() -> None:
    assert went_on(None) == ""
    assert went_on(Execution(("/bin/fit",))) == ""


@pytest.mark.parametrize(("head", "is_said"), [("", True), ("set -e; ", False)])
def test_missing_outputs_of_a_script_that_went_on_say_so(head: str, is_said: bool, state: LocalFSState) -> None:
    spec = {
        "process": {
            "process_type": "interpolated-script-cmd",
            "script": f"{head}true || false\n(no-such-fit --out {{out}}) || true\necho done\n",
            "interpreter": "sh",
        },
        "environment": LOCAL,
        "publisher": {"publisher_type": "frompar-pub", "outputmap": {"out": "out"}},
    }
    from packtivity.syncbackends import defaultsyncbackend

    backend = defaultsyncbackend()
    backend.exec_config = ExecutionConfig({"logging_level": "CRITICAL"}, strict=True)
    with pytest.raises(MissingOutput, match="is not there after the run") as caught:
        pack_object(spec)({"out": "{workdir}/out.root"}, state, syncbackend=backend)
    assert ("A line that fails does not end the script" in caught.value.hint) is is_said


@pytest.mark.parametrize("value", ["http://lab/x?a=1&b=2", "first;b=2"])
def test_missing_outputs_are_told_of_a_value_that_the_shell_took_apart(value: str, state: LocalFSState) -> None:
    from packtivity.syncbackends import defaultsyncbackend

    spec = {
        "process": {"process_type": "string-interpolated-cmd", "cmd": "true {address} && touch {out}"},
        "environment": LOCAL,
        "publisher": {"publisher_type": "frompar-pub", "outputmap": {"out": "missing"}},
    }
    given = {"address": value, "out": "{workdir}/o", "missing": "{workdir}/other"}
    backend = defaultsyncbackend()
    backend.exec_config = ExecutionConfig({"logging_level": "CRITICAL"}, strict=True)
    with pytest.raises(MissingOutput) as caught:
        pack_object(spec)(given, state, syncbackend=backend)
    assert "The value of 'address' has" in caught.value.hint
    assert 'write "{address}"' in caught.value.hint


@pytest.mark.parametrize(
    ("script", "named"),
    [
        ("cat > seen\necho x", "cat"),
        ("ssh host hostname\necho x", "ssh"),
        ("for i in 1 2; do root -b fit.C; done\necho x", "root"),
        ("set -e\nmpirun -n 2 fit\necho x", "mpirun"),
        ("cat a > b\necho x", ""),
        ("ssh host hostname </dev/null\necho x", ""),
        ("echo y | cat > b\necho x", ""),
        ("echo x\nssh host", ""),
        ("# ssh host\nrootcling x\necho x", ""),
    ],
)
def test_a_command_that_may_have_read_the_rest_of_its_script_is_named(script: str, named: str) -> None:
    told = eaten(Execution(("sh", "-c", "bash"), script.encode()))
    assert told.endswith(f"write {named} … </dev/null.") if named else told == ""
    assert eaten(Execution(("sh", "-c", script))) == ""
    assert eaten(None) == ""


def test_missing_outputs_of_a_script_that_was_eaten_say_by_whom(state: LocalFSState) -> None:
    from packtivity.syncbackends import defaultsyncbackend

    script = "set -e\ncat > seen\ntouch {out}\n"
    spec = {
        "process": {"process_type": "interpolated-script-cmd", "script": script, "interpreter": "bash"},
        "environment": LOCAL,
        "publisher": {"publisher_type": "frompar-pub", "outputmap": {"out": "out"}},
    }
    backend = defaultsyncbackend()
    backend.exec_config = ExecutionConfig({"logging_level": "CRITICAL"}, strict=True)
    with pytest.raises(MissingOutput) as caught:
        pack_object(spec)({"out": "{workdir}/out.root"}, state, syncbackend=backend)
    assert "write cat … </dev/null" in caught.value.hint
