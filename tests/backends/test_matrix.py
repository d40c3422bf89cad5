"""The same forty tasks on every backend: the same results, errors and records."""

from __future__ import annotations

import gc
import json
import os
import signal
from pathlib import Path

import jsonschema
import pytest
from specs import command_spec
from waiting import until

from packtivity import pack_object, record
from packtivity.backendutils import backend_from_string, load_proxy
from packtivity.statecontexts import LocalFSState

FROMPAR = {"publisher_type": "frompar-pub", "outputmap": {"o": "out"}}


def command(cmd):
    return command_spec(cmd, FROMPAR)


def script(text):
    process = {"process_type": "interpolated-script-cmd", "script": text, "interpreter": "sh"}
    return {**command(""), "process": process}


CASES = {
    "success": (command("echo {n} > {out}"), {}),
    "failure": (command("echo alas; exit {n}"), {}),
    "signal": (command("kill -{n} $$"), {}),
    "time-out": (command("echo begun; sleep 30"), {"timeout": 0.4, "grace": 2}),
    "missing output": (command("true {n}"), {}),
    "big output": (command("yes {n} | head -c 3000000; echo > {out}"), {}),
    "unicode": (command("printf '%s' 'größe→{text}' > {out}; echo été"), {}),
    "a megabyte": (script("cat > {out} <<'END'\n{big}\nEND\n"), {}),
}
TASKS = [(name, number) for name in CASES for number in (1, 2, 3, 9, 15)]

EXPECTED = {
    "success": ("succeeded", None),
    "failure": ("failed", "TaskFailed"),
    "signal": ("failed", "TaskFailed"),
    "time-out": ("failed", "TaskTimeout"),
    "missing output": ("succeeded", None),
    "big output": ("succeeded", None),
    "unicode": ("succeeded", None),
    "a megabyte": ("succeeded", None),
}


def parameters(name, number):
    given = {"n": number, "out": "{workdir}/größe", "text": f"日本{number}"}
    return {**given, "big": "x" * 1_000_000} if name == "a megabyte" else given


def submit_all(backend, root):
    usual = backend.exec_config if hasattr(backend, "exec_config") else None
    found = []
    for name, number in TASKS:
        spec, execution = CASES[name]
        if usual is not None:
            backend.exec_config = usual.replace(**execution)
        state = LocalFSState([str(root / f"{name}-{number}".replace(" ", "-"))])
        state.ensure()
        found.append((name, number, state, backend.submit(spec, parameters(name, number), state, {"name": "task"})))
    if usual is not None:
        backend.exec_config = usual
    return found


def told(backend, name, number, state, proxy):
    """What a backend and the record say, without what differs from run to run."""
    succeeded = bool(backend.successful(proxy))
    info = None if succeeded else backend.fail_info(proxy)
    written = record.read_outcome(f"{state.metadir}/task.outcome.json")
    jsonschema.Draft4Validator(record.schema()).validate(written)
    kept = ("status", "exit_code", "signal", "timed_out", "missing", "attempts", "result", "published", "command")
    facts = {key: written[key] for key in kept}
    facts["output_bytes"] = written["usage"]["output_bytes"] if name != "time-out" else None
    said = {
        "succeeded": succeeded,
        "type": info and str(info[0]),
        "message": info and str(info[1]),
        "result": backend.result(proxy).json() if succeeded else None,
        "record": facts,
    }
    return json.loads(json.dumps(said).replace(json.dumps(state.readwrite[0])[1:-1], "DIR"))


def run_matrix(backend, root):
    submitted = submit_all(backend, root)
    for *_, proxy in submitted:
        until(lambda proxy=proxy: backend.ready(proxy), 120)
    return submitted, {f"{each[0]} {each[1]}": told(backend, *each) for each in submitted}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """What the backend says that runs tasks here and now."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PACKTIVITY_LOGGING_STREAM_LEVEL", "CRITICAL")
        return run_matrix(backend_from_string("foregroundasync")[1], tmp_path_factory.mktemp("reference"))[1]


def test_the_reference_is_right(reference):
    for key, said in reference.items():
        name, number = key.rsplit(" ", 1)
        status, kind = EXPECTED[name]
        assert (said["record"]["status"], said["type"]) == (status, kind)
        if name == "signal":
            assert said["record"]["signal"] == signal.Signals(int(number)).name
        if name == "failure":
            assert said["record"]["exit_code"] == int(number)
        if name == "missing output":
            assert len(said["record"]["missing"]) == 1


def assert_same(backend, root, reference):
    submitted, said = run_matrix(backend, root)
    assert said == reference
    for _, _, _, proxy in submitted[::7]:
        document = json.loads(json.dumps(proxy.json()))
        other = load_proxy(document, best_effort_backend=False)
        assert backend.ready(other)
        assert bool(backend.successful(other)) == bool(backend.successful(proxy))
    assert_takes_a_pack_object(backend, root)


def assert_takes_a_pack_object(backend, root):
    """As 0.17.1 did: its pickles carried one to where the task failed because of it."""
    state = LocalFSState([str(root / "pack")])
    state.ensure()
    task = pack_object(command("echo > {out}")), {"out": "{workdir}/o"}, state
    expected = {"o": f"{state.readwrite[0]}/o"}
    assert backend.prepublish(*task).json() == expected
    proxy = backend.submit(*task)
    until(lambda: backend.ready(proxy), 60)
    assert backend.result(proxy).json() == expected
    assert Path(expected["o"]).exists()


@pytest.mark.parametrize("name", ["foregroundasync", "externalasync:default"])
def test_other_backends_take_a_pack_object_too(name, tmp_path):
    assert_takes_a_pack_object(backend_from_string(name)[1], tmp_path)


def test_so_does_the_backend_that_runs_tasks_here_and_now(tmp_path):
    state = LocalFSState([str(tmp_path)])
    task = pack_object(command("echo > {out}")), {"out": "{workdir}/o"}, state
    assert backend_from_string("defaultsync")[1].run(*task).json() == {"o": f"{tmp_path}/o"}


@pytest.mark.parametrize("name", ["multiproc:2", "local:2"])
def test_a_backend_that_is_always_there_gives_the_same(name, reference, tmp_path):
    _, backend = backend_from_string(name)
    assert_same(backend, tmp_path, reference)
    getattr(backend, "close", gc.collect)()


def test_celery_with_redis_gives_the_same(celery_redis, reference, tmp_path):
    assert_same(celery_redis, tmp_path, reference)


def test_celery_with_rabbitmq_gives_the_same(celery_rabbit, reference, tmp_path):
    assert_same(celery_rabbit, tmp_path, reference)


def test_ipyparallel_gives_the_same(ipcluster, reference, tmp_path):
    assert_same(ipcluster, tmp_path, reference)


def test_slurm_gives_the_same(slurm, reference, tmp_path):
    assert_same(backend_from_string("slurm")[1], tmp_path, reference)


def test_external_jobs_give_the_same_results(reference, tmp_path):
    _, backend = backend_from_string("externalasync:default")
    found = {}
    for name, number in TASKS:
        if name == "time-out":
            continue
        state = LocalFSState([str(tmp_path / f"{name}-{number}".replace(" ", "-"))])
        state.ensure()
        spec, _ = CASES[name]
        found[f"{name} {number}"] = state, backend.submit(spec, parameters(name, number), state, {"name": "task"})
    for key, (state, proxy) in found.items():
        until(lambda proxy=proxy: backend.ready(proxy), 120)
        expected = reference[key]
        assert bool(backend.successful(proxy)) == expected["succeeded"]
        if expected["succeeded"]:
            result = backend.result(proxy).json()
            assert json.loads(json.dumps(result).replace(state.readwrite[0], "DIR")) == expected["result"]


def test_pure_publishing_works_everywhere(tmp_path, celery_redis, ipcluster):
    spec = {"process": None, "environment": None, "publisher": {"publisher_type": "constant-pub", "publish": {"a": 1}}}
    for backend in (backend_from_string("multiproc:1")[1], backend_from_string("local")[1], celery_redis, ipcluster):
        proxy = backend.submit(spec, {}, None, {"name": "pure"})
        assert backend.result(proxy).json() == {"a": 1}
        assert Path(os.environ["PACKTIVITY_STATE_DIR"]).is_dir()
