"""Proxies, task documents, records and owners' documents of somebody who means harm: nothing is imported, run or written that
the user did not configure. Every interpreter of these tests has an audit hook (programs/hook/sitecustomize.py)."""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"
BIN = Path(sys.executable).parent
MODULE = "antigravity_of_the_attacker"
BAITS = [
    MODULE,
    f"{MODULE}:Evil",
    f"py:{MODULE}:Evil",
    "os:system",
    "subprocess:Popen",
    "builtins:eval",
    "json:codecs.builtins.eval",
    f"$(touch {MODULE})",
    f"; touch {MODULE}",
    "../../../../etc/passwd",
    f"../{MODULE}",
    f"LINK/{MODULE}",
    "/dev/zero",
    "/dev/stdin",
    "/proc/self/environ",
    "FIFO",
    "{workdir.__class__}",
    "{0.__init__.__globals__}",
    "{x[__class__]}",
    "b64json://eyIkdHlwZSI6ICJFIn0=",
    "e:import",
    None,
    -1,
    0,
    1e308,
    float("nan"),
    float("-inf"),
    12345678901234567890123,
    True,
    [],
    [[[]]],
    {},
    {"$type": "E"},
    "",
    ".",
    "..",
    "\0",
    "\ud800",
    "\x1b[2J\x1b]0;x\x07",
    "x" * 5000,
]
KEYS = [
    "types", "literals", "parser", "magics", "keyword", "state", "proxy", "proxystring", "backend", "module", "id", "name",
    "task_id", "record", "status", "result", "error", "type", "returncode", "runner", "host", "pid", "boot", "began",
    "exec", "publisher", "executor", "process", "environment", "plugins", "logging_handler", "containers", "timeout",
    "retries", "pass_env", "datamodel", "state_type", "statestring", "job_id", "jobproxy", "version", "attempts", "key",
    "__class__", "__proto__", "$ref", "",
]  # fmt: skip
MODEL = {
    "keyword": "$type",
    "types": {"E": f"{MODULE}:Evil"},
    "literals": {"parser": f"{MODULE}:Evil", "magics": ["e:"]},
}
TRUSTED = {
    "keyword": "$type",
    "types": {"E": "subprocess:Popen"},
    "literals": {"parser": "subprocess:getoutput", "magics": ["e:"]},
}
TASK = {
    "version": 1,
    "spec": {
        "process": {"process_type": "string-interpolated-cmd", "cmd": "true"},
        "environment": {"environment_type": "noop-env"},
        "publisher": {"publisher_type": "frompar-pub", "outputmap": {"a": "a", "b": "b"}},
    },
    "parameters": {"a": {"$type": "E"}, "b": "e:x", "c": [1, "two"]},
    "state": None,
    "metadata": {"name": "x"},
    "config": {"exec": {"logging_level": "CRITICAL"}},
    "datamodel": None,
    "id": "x",
}
RECORD = {
    "version": 1,
    "id": "x",
    "key": "0" * 16,
    "name": "x",
    "status": "succeeded",
    "attempts": 1,
    "result": {"a": {"$type": "E"}},
    "error": {"type": "TaskFailed", "message": "m", "returncode": 1},
    "record": "/dev/zero",
    "runner": {"pid": 1, "began": "", "boot": "", "host": ""},
}
PROXIES = [
    {
        "proxyname": "ForegroundProxy",
        "proxydetails": {"resultdata": {"a": {"$type": "E"}, "b": "e:x"}, "datamodel": None, "success": True},
    },
    {"proxyname": "MultiProcProxy", "proxydetails": {"task_id": "a", "record": None, "runner": {"pid": 1}}},
    {"proxyname": "LocalProxy", "proxydetails": {"task_id": "a", "host": "here"}},
    {
        "proxyname": "ExternalAsyncProxy",
        "proxydetails": {
            "resultdata": None,
            "jobproxy": {"job_id": "a", "task_id": "a", "record": None, "runner": {}},
            "spec": {"publisher": {"publisher_type": "constant-pub", "publish": {}}},
            "statedata": None,
            "pardata": {},
        },
    },
    {"proxyname": "fromenv", "proxydetails": {"a": 1}},
    {"proxyname": "frompython", "proxydetails": {"proxystring": f"py:{MODULE}:Evil"}},
    {"proxyname": MODULE, "proxydetails": {"task_id": "a", "module": MODULE}},
]
ENTRY = {
    "version": 1,
    "id": "x",
    "engine": "local",
    "place": os.uname().nodename,
    "record": "/dev/zero",
    "claim": "/dev/zero",
    "submitted": 1.0,
    "about": {"name": "x", "workdir": "/nowhere"},
    "task": TASK,
}
SEEDS = {
    "proxy": PROXIES,
    "task": [TASK],
    "celery": [TASK],
    "engine": [TASK],
    "document": [ENTRY] * 3 + [{**ENTRY, "task": None, "status": "succeeded", "result": {"a": {"$type": "E"}}}],
    "record": [RECORD],
}


def mutated(document, chance, baits):
    """Change a document in a few places."""
    text = copy.deepcopy(document)
    for _ in range(chance.randint(1, 4)):
        place = text
        while isinstance(place, dict) and place and chance.random() < 0.7:
            key = chance.choice(list(place))
            if not isinstance(place[key], dict):
                break
            place = place[key]
        if isinstance(place, dict):
            key = chance.choice([*place, *KEYS])
            place[key] = copy.deepcopy(chance.choice([MODEL, TRUSTED, *baits]))
    return text


def text_of(document, chance):
    """Write a document as JSON, now and then in a form that JSON readers disagree about."""
    text = json.dumps(document)
    kind = chance.random()
    if kind < 0.03:
        return text[: chance.randrange(len(text))]
    if kind < 0.06 and text.startswith("{"):
        evil = json.dumps({"datamodel": MODEL, "proxyname": MODULE, "id": "../x", "status": MODULE})
        return "{" + evil[1:-1] + ", " + text[1:]  # keys twice
    if kind < 0.09:
        deep = chance.choice([200, 900, 2000, 100_000])
        return text.replace("true", "[" * deep + "]" * deep, 1) if "true" in text else "[" * deep + "]" * deep
    if kind < 0.1:
        return text.replace('"x"', '"' + "x" * 2_000_000 + '"', 1)
    return text


@pytest.fixture
def arena(tmp_path):
    """A folder with the attacker's module in the search path, and an audit hook in every interpreter."""
    return Arena(tmp_path)


class Arena:
    def __init__(self, folder):
        self.folder = folder
        self.cases = folder / "cases"
        self.cases.mkdir()
        attacker = folder / "attacker"
        attacker.mkdir()
        (attacker / f"{MODULE}.py").write_text(
            f"open({str(folder / 'canary')!r}, 'w')\nimport os, subprocess\nclass Evil:\n    fromJSON = classmethod(os.system)\n"
        )
        os.mkfifo(folder / "fifo")
        (self.cases / "link.d").symlink_to("/etc")
        self.log = folder / "audit"
        path = os.pathsep.join([str(PROGRAMS / "hook"), str(attacker), os.environ.get("PYTHONPATH", "")])
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PACKTIVITY_")}
        self.environment |= {
            "PYTHONPATH": path.rstrip(os.pathsep),
            "AUDIT_LOG": str(self.log),
            "AUDIT_ALLOWED": os.pathsep.join((str(folder), "/dev/null")),
            "PACKTIVITY_STATE_DIR": str(folder / "state"),
            "PACKTIVITY_LOGGING_STREAM_LEVEL": "CRITICAL",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(folder),
        }
        self.baits = [self._place(bait) for bait in BAITS]

    def _place(self, bait):
        if bait == "FIFO":
            return str(self.folder / "fifo")
        return bait.replace("LINK", str(self.cases / "link.d")) if isinstance(bait, str) else bait

    def fill(self, kind, count, seed):
        chance = random.Random(f"{kind} {seed}")
        for number in range(count):
            document = mutated(chance.choice(SEEDS[kind]), chance, self.baits)
            if kind == "document" and chance.random() < 0.8:
                document["id"] = f"{kind}-{number:05}"  # a file is of the task that it is called after
                if document.get("record") == ENTRY["record"] and chance.random() < 0.8:
                    document["record"] = f"{self.folder}/work/_packtivity/x.{document['id']}.outcome.json"
                    document["claim"] = f"{self.folder}/work/_packtivity/x.{'0' * 16}.state.json"
                if isinstance(document.get("task"), dict):
                    document["task"]["id"] = document["id"]
            content = text_of(document, chance)
            (self.cases / f"{kind}-{number:05}").write_text(content, encoding="utf-8", errors="surrogatepass")

    def run(self, *argv, **more):
        options = {
            "capture_output": True,
            "text": True,
            "timeout": 900,
            "cwd": self.folder,
            "stdin": subprocess.DEVNULL,
        }
        return subprocess.run(argv, env=self.environment, check=False, **{**options, **more})

    def events(self):
        """What the audit hook has told."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def meet(self):
        done = self.run(sys.executable, str(PROGRAMS / "meet.py"), str(self.cases))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


COUNTS = [pytest.param(400, id="sample"), pytest.param(5000, id="soak", marks=pytest.mark.soak)]


@pytest.mark.parametrize("kind", SEEDS)
@pytest.mark.parametrize("count", COUNTS)
def test_hostile_documents_import_run_and_write_nothing(arena, kind, count):
    if kind in ("celery", "engine"):
        pytest.importorskip("celery" if kind == "celery" else "ipyparallel")
    arena.fill(kind, count, seed=count)
    said = arena.meet()
    assert arena.events() == []
    assert not (arena.folder / "canary").exists()
    assert said["odd"] == []
    assert sum(said["told"].values()) == count
    assert min(said["seen"]["import"], said["seen"]["open"]) > 20  # the hook was there
    assert len(said["told"]) > 1
    print(kind, json.dumps(said["told"], indent=1))


def test_the_hook_sees_what_is_configured(arena):
    """A test of the tests: with the module configured it is imported, and a task that starts a process is seen to."""
    arena.environment["PACKTIVITY_PLUGINS"] = MODULE
    document = copy.deepcopy(TASK)
    document["spec"]["environment"] = {"environment_type": "localproc-env"}
    (arena.cases / "task").write_text(json.dumps({**document, "parameters": {"a": 1, "b": 2}}))
    done = arena.run(BIN / "packtivity-worker", arena.cases / "task")
    assert done.returncode in (0, 5), done.stderr
    assert (arena.folder / "canary").exists()
    assert {"exec", "subprocess.Popen"} <= {event for event, *_ in arena.events()}


def test_a_configured_module_gives_its_own_classes_and_not_what_it_has_imported(arena):
    """``os.system`` is an attribute of every module that imports os."""
    arena.environment["PACKTIVITY_PLUGINS"] = MODULE
    for name in (f"{MODULE}:os.system", f"{MODULE}:subprocess.getoutput"):
        model = {"keyword": "$type", "types": {}, "literals": {"parser": name, "magics": ["e:"]}}
        (arena.cases / "task").write_text(json.dumps({**TASK, "datamodel": model, "parameters": {"a": "e:x", "b": 1}}))
        done = arena.run(BIN / "packtivity-worker", arena.cases / "task")
        assert done.returncode == 11, done.stderr
        assert "is of a module that is not configured" in done.stderr
    assert {event for event, *_ in arena.events()} <= {"exec", "open"}


@pytest.mark.parametrize(
    "count", [pytest.param(60, id="sample"), pytest.param(5000, id="soak", marks=pytest.mark.soak)]
)
def test_the_command_checkproxy_meets_them_too(arena, count):
    arena.fill("proxy", count, seed="command")
    names = sorted(str(path) for path in arena.cases.glob("proxy-*"))
    for begin in range(0, count, 250):
        done = arena.run(BIN / "packtivity-checkproxy", "--format", "json", "--logs", *names[begin : begin + 250])
        assert done.returncode in (0, 6, 12, 75), done.stderr[-2000:]
        assert len(json.loads(done.stdout)) == len(names[begin : begin + 250])
    assert arena.events() == []
    assert not (arena.folder / "canary").exists()


@pytest.mark.parametrize("count", [pytest.param(12, id="sample"), pytest.param(300, id="soak", marks=pytest.mark.soak)])
def test_the_command_worker_meets_them_too(arena, count):
    arena.fill("task", count, seed="command")
    for path in sorted(arena.cases.glob("task-*")):
        done = arena.run(BIN / "packtivity-worker", path)
        assert "Traceback" not in done.stderr
        assert "internal error" not in done.stderr, (path.read_text()[:3000], done.stderr)
    assert arena.events() == []
    assert not (arena.folder / "canary").exists()


@pytest.mark.parametrize(
    "count", [pytest.param(60, id="sample"), pytest.param(2000, id="soak", marks=pytest.mark.soak)]
)
def test_a_supervisor_of_hostile_tasks_goes_on_to_the_last(arena, count):
    """The queue of the backend local, run for real; only its own workers may be started."""
    arena.fill("document", count, seed="supervisor")
    folder = arena.folder / "state" / "detached" / os.uname().nodename
    queue, tasks = folder / "queue", arena.folder / "state" / "tasks"
    for each in (queue, tasks):
        each.mkdir(parents=True, mode=0o700)
    for path in arena.cases.glob("document-*"):
        path.rename(tasks / f"{path.name}.json")
        (queue / path.name).touch()
    argv = [sys.executable, "-P", "-m", "packtivity.backends.engines.local", "2", "foreground"]
    with (arena.folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, env=arena.environment, stdin=subprocess.DEVNULL, stderr=log, cwd=arena.folder)
    deadline = time.monotonic() + 600
    try:
        while [*queue.iterdir()]:
            assert time.monotonic() < deadline, (arena.folder / "log").read_text()[-3000:]
            assert process.poll() is None, (arena.folder / "log").read_text()[-3000:]
            time.sleep(0.1)
    finally:
        process.terminate()
        process.wait()
    assert {event for event, *_ in arena.events()} <= {"subprocess.Popen"}
    assert all("packtivity.backends.pool" in args[1] for _, args, *_ in arena.events())
    assert len(arena.events()) <= 4
    assert len(list(tasks.glob("*.over"))) > count / 4
    assert not (arena.folder / "canary").exists()
    assert "Traceback" not in (arena.folder / "log").read_text()


def test_a_folder_with_modules_in_it_is_none_of_ours(arena):
    """Who submits from a folder of somebody else's does not have its ``json.py`` imported by the workers."""
    for name in ("json.py", "yaml.py", "packtivity.py", "gc.py"):
        (arena.folder / name).write_text(f"open({str(arena.folder / 'canary')!r}, 'w')")
    (arena.folder / "spec.json").write_text(json.dumps(TASK["spec"]))
    for backend in ("multiproc:1", "local:1", "externalasync:default"):
        options = ("-b", backend, "-p", "a=1", "-p", "b=2", "-w", str(arena.folder / "work"))
        done = arena.run(BIN / "packtivity-run", *options, "spec.json")
        assert done.returncode == 0, done.stderr
    assert not (arena.folder / "canary").exists()


def test_messages_with_pickles_are_refused_by_a_worker():
    pytest.importorskip("celery")
    from kombu.exceptions import ContentDisallowed
    from kombu.serialization import loads, prepare_accept_content

    from packtivity.backends.engines.celery import make_app

    accepted = prepare_accept_content(make_app().conf.accept_content)
    assert accepted == {"application/json"}
    for kind in ("application/x-python-serialize", "application/x-yaml", "application/x-msgpack"):
        with pytest.raises(ContentDisallowed):
            loads(b"cos\nsystem\n(S'true'\ntR.", kind, "binary", accept=accepted)


def test_a_leaf_type_of_a_configured_module_is_allowed(monkeypatch):
    from packtivity.worker import answer

    monkeypatch.setenv("PACKTIVITY_PLUGINS", "json")
    document = {**TASK, "id": "leaf", "datamodel": {"keyword": "$t", "types": {"D": "json:JSONDecoder"}}}
    assert answer(document)["status"] == "succeeded"
