"""What was wrong in packtivity 0.17.1 and is right here: one program for each, run by both, and both answers are known.

A program that is answered alike by both would show nothing, so each test fails when this package does as 0.17.1 did, and
when 0.17.1 does not do what is said of it. What takes an engine or a kill to show is in the table at the end.
"""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from forks import Forks

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "explanation" / "compatibility.md"

PREAMBLE = '''
import json, logging, os, socket, stat, sys, threading, time
import packtivity
from packtivity.backendutils import backend_from_string, load_proxy
from packtivity.statecontexts import LocalFSState
from packtivity.syncbackends import ExecutionConfig, defaultsyncbackend

def spec(cmd, publisher=None, environment="localproc-env"):
    return {
        "process": {"process_type": "string-interpolated-cmd", "cmd": cmd},
        "environment": {"environment_type": environment, "image": "busybox", "imagetag": "latest", "resources": [],
            "envscript": "", "env": {}, "workdir": None, "par_mounts": []},
        "publisher": publisher or {"publisher_type": "constant-pub", "publish": {"a": 1}},
    }

def state(*names):
    made = LocalFSState([os.path.abspath(name) for name in names or ("work",)])
    made.ensure()
    return made

def submitted(backend, task, proxy=None):
    made = backend.submit(task, packtivity.datamodel.create({}), state(), {"name": "one"})
    deadline = time.monotonic() + 30
    while not backend.ready(made) and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    return made

def docker():
    """Put a docker on the path that does nothing but note how it was called, and refuses a cidfile that is there."""
    os.makedirs("bin")
    with open("bin/docker", "w") as file:
        file.write(f"""#!{sys.executable}
import json, os, sys
arguments = sys.argv[1:]
if "--cidfile" in arguments or any(one.startswith("--cidfile=") for one in arguments):
    at = [number for number, one in enumerate(arguments) if one.startswith("--cidfile")][0]
    cidfile = arguments[at].partition("=")[2] or arguments[at + 1]
    if os.path.exists(cidfile):
        sys.exit("docker: container ID file found")
    open(cidfile, "w").write("0" * 64)
with open({os.path.abspath("calls")!r}, "a") as calls:
    calls.write(json.dumps(arguments) + "\\\\n")
if "run" in arguments:
    print("said")
""")
    os.chmod("bin/docker", 0o755)
    os.environ.update(PATH=os.path.abspath("bin") + ":" + os.environ["PATH"], PACKTIVITY_DOCKER_NOPULL="1")
    daemon = socket.socket(socket.AF_UNIX)
    daemon.bind("daemon")
    daemon.listen()
    os.environ.update(DOCKER_HOST="unix://" + os.path.abspath("daemon"), PACKTIVITY_CONTAINER_RUNTIME="docker")
    return daemon

def show(value):
    print("SHOWN" + json.dumps(value))

sys.excepthook = lambda kind, *others: show(kind.__name__)
'''


@dataclass(frozen=True)
class Wrong:
    """A thing that was wrong, the program that shows it, and what it shows here and with 0.17.1."""

    what: str
    program: str
    here: Any
    upstream: Any


CASES = [
    Wrong(
        "`pack_object` ignores `syncbackend`",
        """
        class Mine:
            def run(self, spec, parameters, state, metadata=None):
                return "mine"

        show(str(packtivity.pack_object(spec("true"))({}, state(), syncbackend=Mine())))
        """,
        "mine",
        "<TypedLeafs: {'a': 1}>",
    ),
    Wrong(
        "`externalasync:default` can never succeed",
        """
        _, backend = backend_from_string("externalasync:default")
        proxy = submitted(backend, spec("echo done > done.txt"))
        show([bool(backend.successful(proxy)), os.path.exists("work/done.txt")])
        """,
        [True, True],
        [False, False],
    ),
    Wrong(
        "proxies of `externalasync:default` do not load",
        """
        _, backend = backend_from_string("externalasync:default")
        proxy = submitted(backend, spec("true"))
        show(type(load_proxy(proxy.json(), best_effort_backend=False)).__name__)
        """,
        "ExternalAsyncProxy",
        "RuntimeError",
    ),
    Wrong(
        "the foreground backend raises when a task fails",
        """
        _, backend = backend_from_string("foregroundasync")
        proxy = submitted(backend, spec("exit 3"))
        show([bool(backend.ready(proxy)), bool(backend.successful(proxy))])
        """,
        [True, False],
        "RuntimeError",
    ),
    Wrong(
        "an empty result `{}` counts as failure in the foreground backend",
        """
        _, backend = backend_from_string("foregroundasync")
        empty = {"publisher_type": "constant-pub", "publish": {}}
        show(bool(backend.successful(submitted(backend, spec("true", empty)))))
        """,
        True,
        False,
    ),
    Wrong(
        "`{workdir}` and `readwrite[0]` differ when several directories are given unsorted",
        """
        made = state("z", "a")
        show([os.path.basename(made.contextualize_value("{workdir}")), os.path.basename(made.readwrite[0])])
        """,
        ["z", "z"],
        ["z", "a"],
    ),
    Wrong(
        "commands are put together as strings: blanks, quotes and colons in paths break them",
        """
        daemon = docker()
        task = spec("true", environment="docker-encapsulated")
        defaultsyncbackend().run(task, {}, state("with blank"), {"name": "one"})
        (call,) = (json.loads(line) for line in open("calls") if '"run"' in line)
        show(any(os.path.abspath("with blank") in one for one in call))
        """,
        True,
        False,
    ),
    Wrong(
        "the whole process changes its directory",
        """
        before, seen, done = os.getcwd(), set(), threading.Event()

        def look():
            while not done.wait(0.005):
                seen.add(os.getcwd())

        watcher = threading.Thread(target=look)
        watcher.start()
        packtivity.pack_object(spec("sleep 0.3"))({}, state())
        done.set()
        watcher.join()
        show(os.path.join(before, "work") in seen)
        """,
        False,
        True,
    ),
    Wrong(
        "a fixed sleep for each process",
        """
        daemon, slept = docker(), []
        time.sleep = slept.append
        defaultsyncbackend().run(spec("true", environment="docker-encapsulated"), {}, state(), {"name": "one"})
        show(slept)
        """,
        [],
        [0.5],
    ),
    Wrong(
        "log handlers leak",
        """
        for number in range(3):
            try:
                defaultsyncbackend().run(spec("exit 1"), {}, state(), {"name": f"task{number}"})
            except RuntimeError:
                pass
        show(sum(len(logging.getLogger(f"pack.task{number}.step").handlers) for number in range(3)))
        """,
        0,
        6,
    ),
    Wrong(
        "`-p a=b=c` crashes",
        """
        from packtivity.cli import getinit_data
        show(getinit_data((), ("a=b=c",)))
        """,
        {"a": "b=c"},
        "ValueError",
    ),
    Wrong(
        "`ensure()` fails without read-write directories",
        """
        LocalFSState().ensure()
        show("nothing to do")
        """,
        "nothing to do",
        "TypeError",
    ),
    Wrong(
        "`state_hash()` of an empty directory crashes",
        """
        os.mkdir("empty")
        show(len(LocalFSState([os.path.abspath("empty")]).state_hash()))
        """,
        40,
        "ValueError",
    ),
    Wrong(
        "the caller's dictionaries are changed",
        """
        given = {"state_type": "localfs", "identifier": "x", "readwrite": [{"path": "/tmp"}], "readonly": [{"path": "/usr"}]}
        before = json.dumps(given)
        LocalFSState(given["readwrite"], given["readonly"])
        show(json.dumps(given) == before)
        """,
        True,
        False,
    ),
    Wrong(
        "`PACKTIVITY_DRYRUN=false` means true",
        """
        os.environ["PACKTIVITY_DRYRUN"] = "false"
        daemon = docker()
        defaultsyncbackend().run(spec("true", environment="docker-encapsulated"), {}, state(), {"name": "one"})
        show(os.path.exists("calls"))
        """,
        True,
        False,
    ),
    Wrong(
        "a second run in a directory trips over the old `.cid` file",
        """
        daemon = docker()
        for number in range(2):
            defaultsyncbackend().run(spec("true", environment="docker-encapsulated"), {}, state(), {"name": "one"})
        show("ran twice")
        """,
        "ran twice",
        "RuntimeError",
    ),
    Wrong(
        "the failing command's exit code and output are lost",
        """
        try:
            packtivity.pack_object(spec("echo no space left; exit 28"))({}, state())
        except RuntimeError as error:
            show(["28" in str(error), "no space left" in str(error)])
        """,
        [True, True],
        [False, False],
    ),
    Wrong(
        "`multiproc` proxies cannot be looked up by another process",
        """
        _, backend = backend_from_string("multiproc:1")
        document = json.loads(json.dumps(submitted(backend, spec("true")).json()))
        code = "import json, sys; from packtivity.backendutils import load_proxy; print(load_proxy(json.loads(sys.argv[1]))[0])"
        import subprocess
        asked = subprocess.run([sys.executable, "-c", code, json.dumps(document)], capture_output=True, text=True)
        show("MultiProcProxy" in asked.stdout)
        """,
        True,
        False,
    ),
    Wrong(
        "parameter documents cost quadratic time",
        """
        from packtivity.datamodel import create

        def seconds(leaves):
            document, here = create({f"p{number}": "{workdir}/x" for number in range(leaves)}), state()
            began, times = time.process_time(), 0
            while time.process_time() - began < 0.05:
                here.model(document)
                times += 1
            return (time.process_time() - began) / times

        show(seconds(400) / seconds(50) > 12)
        """,
        False,
        True,
    ),
    Wrong(
        "read-only directories can be written in containers",
        """
        daemon = docker()
        os.mkdir("input")
        made = LocalFSState([os.path.abspath("work")], [os.path.abspath("input")])
        made.ensure()
        defaultsyncbackend().run(spec("true", environment="docker-encapsulated"), {}, made, {"name": "one"})
        (call,) = (json.loads(line) for line in open("calls") if '"run"' in line)
        (mount,) = (one for one in call if os.path.abspath("input") in one)
        show(mount.endswith(":rw"))
        """,
        False,
        True,
    ),
    Wrong(
        "the directory of credentials can be written in containers",
        """
        daemon = docker()
        os.mkdir("secrets")
        os.environ["PACKTIVITY_AUTH_LOCATION"] = os.path.abspath("secrets")
        asking = spec("true", environment="docker-encapsulated")
        asking["environment"]["resources"] = ["KRB5Auth"]
        defaultsyncbackend().run(asking, {}, state(), {"name": "one"})
        (call,) = (json.loads(line) for line in open("calls") if '"run"' in line)
        (mount,) = (one for one in call if os.path.abspath("secrets") in one)
        show("readonly" not in mount and not mount.endswith(":ro"))
        """,
        False,
        True,
    ),
    Wrong(
        "each line of a container's output has `b'…'` around it in the run log",
        """
        daemon = docker()
        defaultsyncbackend().run(spec("true", environment="docker-encapsulated"), {}, state(), {"name": "one"})
        show("b'said'" in open("work/_packtivity/one.run.log").read())
        """,
        False,
        True,
    ),
    Wrong(
        "a task's own output goes to standard output in `localproc-env`",
        """
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(os.open("output", os.O_WRONLY | os.O_CREAT), 1)
        packtivity.pack_object(spec("echo from the task"))({}, state())
        os.dup2(kept, 1)
        show("from the task" in open("output").read())
        """,
        False,
        True,
    ),
    Wrong(
        "a script in `localproc-env` crashes",
        """
        task = spec("")
        task["process"] = {"process_type": "interpolated-script-cmd", "script": "echo {x} > o", "interpreter": "sh"}
        packtivity.pack_object(task)({"x": 1}, state())
        show(open("work/o").read())
        """,
        "1\n",
        "RuntimeError",
    ),
    Wrong(
        "dates in YAML crash",
        """
        from packtivity.cli import getinit_data
        given = packtivity.datamodel.create(getinit_data((), ("day=2017-03-01",)))
        show(state().model(given).json())
        """,
        {"day": "2017-03-01"},
        "AttributeError",
    ),
    Wrong(
        "defaults inside a `$ref` are forgotten",
        """
        json.dump({"process_type": "interpolated-script-cmd", "script": "true"}, open("process.yml", "w"))
        json.dump({**spec(""), "process": {"$ref": "process.yml"}, "environment": None}, open("spec.yml", "w"))
        show(packtivity.load_packtivity("spec.yml", os.getcwd())["process"].get("interpreter"))
        """,
        "sh",
        None,
    ),
    Wrong(
        "a parameter called `workdir` crashes `interpolated-pub`",
        """
        text = {"publisher_type": "interpolated-pub", "publish": {"x": "{workdir}"}, "glob": False, "relative_paths": False}
        show(packtivity.pack_object(spec("true", text))({"workdir": "mine"}, state()).json())
        """,
        {"x": "mine"},
        "TypeError",
    ),
    Wrong(
        "a work directory called `run[1]` is taken for a pattern by globs, and `run1`'s files are published",
        """
        state("run1")
        open("run1/a", "w").close()
        glob = {"publisher_type": "fromglob-pub", "globexpression": "*", "outputkey": "found"}
        result = packtivity.pack_object(spec("echo > a", glob))({}, state("run[1]"))
        show(sorted(os.path.relpath(path) for path in result.json()["found"] if path.endswith("a")))
        """,
        ["run[1]/a"],
        ["run1/a"],
    ),
    Wrong(
        "`fromparjq-pub` changes large whole numbers and `1.0`",
        """
        jq = {"publisher_type": "fromparjq-pub", "script": ".", "tryExact": True, "glob": False, "relative_paths": False}
        result = packtivity.pack_object(spec("true", jq))({"large": 12345678901234567890, "real": 1.0}, state())
        show(json.dumps(result.json(), sort_keys=True))
        """,
        '{"large": 12345678901234567890, "real": 1.0}',
        '{"large": 12345678901234567168, "real": 1}',
    ),
    Wrong(
        "`{workdir.__class__}` reaches Python's internals",
        """
        show(state().contextualize_value("{workdir.__class__}"))
        """,
        "TemplateError",
        "<class 'str'>",
    ),
    Wrong(
        "dependencies of a state are numbered in the order they come, which yadage takes from a set",
        """
        first, second = state("a"), state("b")
        show(os.path.basename(LocalFSState(["w"], dependencies=[second, first]).contextualize_value("{readdir0}")))
        """,
        "a",
        "b",
    ),
]


def answer(forks: Forks, program: str, place: Path) -> Any:
    """Run a program in a folder of its own and return what it showed first, or the name of the error it ended with."""
    place.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PACKTIVITY_")}
    env = {**kept, "PACKTIVITY_LOGGING_STREAM_LEVEL": "CRITICAL"}
    done = forks.run(["-c"], place, env, code=PREAMBLE + textwrap.dedent(program))
    shown = re.search(r"^SHOWN(.*)$", done.stdout, re.MULTILINE)
    assert shown, f"it showed nothing:\n{done.stdout}{done.stderr}"
    return json.loads(shown[1])


@pytest.fixture(scope="module")
def our_programs() -> Iterator[Forks]:
    forks = Forks(sys.executable, "packtivity")
    yield forks
    forks.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what.replace("`", ""))
def test_what_was_wrong_is_right_here(
    case: Wrong, original_programs: Forks, our_programs: Forks, tmp_path: Path
) -> None:
    assert answer(original_programs, case.program, tmp_path / "upstream") == case.upstream
    assert answer(our_programs, case.program, tmp_path / "here") == case.here


ELSEWHERE = {
    "an image with a user other than root cannot write into the work directory": (
        "containers/test_homes.py::test_a_task_is_the_images_own_user"
    ),
    "what root of a container makes stays root's": "containers/test_homes.py::test_a_task_is_the_images_own_user",
    "a container outlives a killed client": "containers/test_kills.py::test_nothing_is_left_after_a_kill",
    "after a day, a time-out starts anew": "test_api.py::test_waiting_is_given_up_even_after_a_day",
    "`fromglob-pub` publishes in the order of the directory": (
        "handlers/test_publisher_handlers.py::test_paths_are_sorted"
    ),
    "what a killed workflow engine left running writes beside the new run": (
        "dropin/test_yadage_backends.py"
        "::test_what_a_killed_engine_leaves_running_is_ended_before_its_directory_is_used_again"
    ),
    "pods run as uid 0": "cluster/test_attacks.py::test_nobody_is_root_unless_told",
    "a failing command in a pod counts as a success": (
        "cluster/test_running.py::test_a_failing_command_is_told_with_exit_code_output_and_log"
    ),
    "Kubernetes replaces `$(NAME)` and `$$` in commands": (
        "cluster/test_running.py::test_dollars_in_commands_and_variables_are_left_to_the_shell"
    ),
    "Celery carries pickles": "test_wrong_upstream.py::test_celery_carries_documents",
}
"""What takes an engine, a kill or a clock to show, with the test that does."""


def test_celery_carries_documents() -> None:
    celery = pytest.importorskip("celery")
    from packtivity.asyncbackends import default_celeryapp

    assert isinstance(default_celeryapp, celery.Celery)
    found = default_celeryapp.conf
    assert (found.task_serializer, found.result_serializer, set(found.accept_content)) == ("json", "json", {"json"})


@pytest.mark.parametrize("test", ELSEWHERE.values())
def test_what_takes_more_to_show_has_its_test(test: str) -> None:
    file, _, name = test.partition("::")
    assert f"def {name}(" in (TESTS / file).read_text(encoding="utf-8")


def test_the_page_says_neither_more_nor_less() -> None:
    _, _, section = PAGE.read_text(encoding="utf-8").partition("## What differs on purpose")
    rows = re.findall(r"^\| (.+?) \| .+ \|$", section, re.MULTILINE)
    assert sorted(rows) == sorted(["0.17.1", *(case.what for case in CASES), *ELSEWHERE])
