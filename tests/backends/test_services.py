"""Services that run and ask for tasks: started anew without their state, several beside each other, with a uid of the moment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from drawer import Backend, Drawer, again, spec
from waiting import until

from packtivity import seal
from packtivity.backends.engine import Native
from packtivity.backendutils import backend_from_string, load_proxy
from packtivity.errors import BackendError, ProxyError
from packtivity.statecontexts import LocalFSState
from packtivity.worker import run_envelope

NAME = {"name": "step"}
BIN = Path(sys.executable).parent


@pytest.fixture
def pod(tmp_path, monkeypatch):
    """Make pods: the same work directories, and a state directory of its own for each."""
    monkeypatch.setenv("PACKTIVITY_LOGGING_STREAM_LEVEL", "CRITICAL")

    def start(name):
        monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / name))

    start("first")
    return start


@pytest.fixture
def state(tmp_path):
    made = LocalFSState([str(tmp_path / "work")])
    made.ensure()
    return made


def files_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- yadage, restarted in a new pod -----------------------------------------------------------------------------


def test_after_a_restart_without_its_state_a_service_has_the_results_of_what_is_over(pod, state, tmp_path):
    backend = backend_from_string("local:1")[1]
    document = json.loads(json.dumps(backend.submit(spec(), {}, state, NAME).json()))
    proxy = load_proxy(document)[0]
    until(lambda: backend.ready(proxy))
    pod("second")
    before = files_in(tmp_path / "work")
    proxy, backend = load_proxy(document)
    assert (backend.ready(proxy), backend.successful(proxy)) == (True, True)
    assert backend.result(proxy).json() == {"o": "real"}
    assert backend.status(proxy).verified is False
    assert files_in(tmp_path / "work") == before
    assert not (tmp_path / "second").exists()


def test_after_a_restart_what_still_runs_is_waited_for(pod, state, tmp_path):
    backend = backend_from_string("local:1")[1]
    spec_ = spec("touch begun; while ! test -e go; do sleep 0.01; done")
    document = json.loads(json.dumps(backend.submit(spec_, {}, state, NAME).json()))
    until((tmp_path / "work" / "begun").exists)
    pod("second")
    proxy, backend = load_proxy(document)
    assert backend.status(proxy).status == "running"
    assert not backend.ready(proxy)
    with pytest.raises(BackendError, match="not known to be yours"):
        backend.cancel(proxy)
    (tmp_path / "work" / "go").touch()
    until(lambda: backend.ready(proxy))
    assert backend.result(proxy).json() == {"o": "real"}


def test_after_a_restart_what_was_lost_is_unknown_and_is_not_run_by_who_asks(pod, state, tmp_path):
    backend = Backend(Drawer())
    proxy = backend.submit(spec(), {}, state, NAME)
    pod("second")
    backend.engine.said = Native("gone")
    with pytest.raises(ProxyError):
        backend.ready(again(proxy))
    assert len(backend.engine.given) == 1
    # the service submits it anew, and the delivery that was not lost after all runs after it, not beside it
    second = backend.submit(spec("mkdir alone; sleep 0.2; rmdir alone; echo >> ran"), {}, state, NAME)
    assert run_envelope(backend.engine.given[1])["status"] == "succeeded"
    assert backend.status(second).verified is True


# --- replicas ---------------------------------------------------------------------------------------------------


def test_a_replica_with_the_same_key_verifies_and_does_not_tend(pod, state, tmp_path, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_SEAL_KEY_FILE", str(tmp_path / "key"))
    backend = Backend(Drawer())
    proxy = backend.submit(spec(), {}, state, NAME)
    run_envelope(backend.engine.given[0])
    pod("second")
    before = files_in(tmp_path)
    status = Backend(backend.engine).status(again(proxy))
    assert (status.status, status.verified) == ("succeeded", True)
    assert files_in(tmp_path) == before


def test_a_replica_with_the_same_key_is_told_of_a_forged_record_that_it_is_one(pod, state, tmp_path, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_SEAL_KEY_FILE", str(tmp_path / "key"))
    backend = Backend(Drawer())
    proxy = backend.submit(spec(), {}, state, NAME)
    Path(proxy.record).write_text(json.dumps({"id": proxy.task_id, "status": "succeeded", "result": {}, "error": None}))
    pod("second")
    assert Backend(backend.engine).status(again(proxy)).verified is False


def test_a_replica_cancels_a_task_in_the_pool_of_another_one(pod, state, tmp_path, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_SEAL_KEY_FILE", str(tmp_path / "key"))
    backend = backend_from_string("multiproc:1")[1]
    proxy = backend.submit(spec("touch begun; sleep 60"), {}, state, NAME)
    until((tmp_path / "work" / "begun").exists)
    pod("second")
    other, asker = load_proxy(json.loads(json.dumps(proxy.json())))
    asker.cancel(other)
    until(lambda: backend.ready(proxy))
    assert backend.status(proxy).status == "cancelled"
    backend.close()


# --- a website that asks only -----------------------------------------------------------------------------------


def test_who_only_asks_needs_no_home_and_leaves_nothing(pod, state, tmp_path):
    backend = backend_from_string("local:1")[1]
    proxy = backend.submit(spec(), {}, state, NAME)
    (tmp_path / "proxy.json").write_text(json.dumps(proxy.json()))
    until(lambda: backend.ready(proxy))
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PACKTIVITY_", "XDG_"))}
    environ["HOME"] = "/proc/nothing"
    before = files_in(tmp_path / "work")
    argv = [BIN / "packtivity-checkproxy", tmp_path / "proxy.json"]
    done = subprocess.run(argv, capture_output=True, text=True, env=environ, check=False)
    assert (done.returncode, done.stdout) == (0, 'ready: True\nsuccessful: True\nresult: {"o": "real"}\n')
    assert "verified: False" in done.stderr
    assert files_in(tmp_path / "work") == before


# --- a user id of the moment ------------------------------------------------------------------------------------

POD = """
import grp, json, logging, os, pwd, sys
from drawer import Backend, Drawer, Proxy, spec
from packtivity.statecontexts import LocalFSState
from packtivity.worker import run_envelope

def submit(folder):
    state = LocalFSState([folder])
    state.ensure()
    backend = Backend(Drawer())
    proxy = backend.submit(spec(), {}, state, {"name": "step"})
    run_envelope(backend.engine.given[0])
    return backend, proxy, backend.status(proxy)

def ask(path):
    with open(path) as file:
        return Backend(Drawer()).status(Proxy.fromJSON(json.load(file)))

root, state, action, uid = sys.argv[1:]
keys = os.environ.pop("PACKTIVITY_SEAL_KEY_FILE", None)
os.environ["PACKTIVITY_STATE_DIR"] = root + "/warm-state"
_, warm, _ = submit(root + "/warm")  # so that everything is imported that the user below could not read
json.dump(warm.json(), open(root + "/warm.json", "w"))
ask(root + "/warm.json")
os.umask(0o002)
os.environ["PACKTIVITY_STATE_DIR"] = state
if keys:
    os.environ["PACKTIVITY_SEAL_KEY_FILE"] = keys
os.setgroups([])
os.setgid(4242)
os.setuid(int(uid))
if action == "submit":
    _, proxy, status = submit(root + "/volume/work")
    json.dump(proxy.json(), open(root + "/volume/proxy.json", "w"))
else:
    status = ask(root + "/volume/proxy.json")
print(json.dumps([status.status, status.result, status.verified]))
"""


@pytest.fixture
def node():
    """A directory that other user ids can reach, which those of pytest are not for."""
    made = Path(tempfile.mkdtemp(prefix="packtivity-node-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may take other user ids")
@pytest.mark.parametrize("shared", [True, False], ids=["shared key", "no shared key"])
def test_pods_with_user_ids_of_the_moment_share_a_volume_through_their_group(node, shared):
    """As OpenShift starts them: any uid, always the same group, and volumes that the group may write to."""
    volume = node / "volume"
    for folder in (volume, volume / "state"):
        folder.mkdir()
        os.chown(folder, 0, 4242)
        folder.chmod(0o2775)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "common"), "HOME": "/"}
    environ["PACKTIVITY_LOGGING_STREAM_LEVEL"] = "CRITICAL"
    if shared:
        environ["PACKTIVITY_SEAL_KEY_FILE"] = str(volume / "key")
    told = []
    for action, uid, state in (("submit", 100042, volume / "state"), ("ask", 100043, volume / "state")):
        argv = [sys.executable, "-c", POD, str(node), str(state), action, str(uid)]
        done = subprocess.run(argv, capture_output=True, text=True, env=environ, check=False)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
    assert told == [["succeeded", {"o": "real"}, True], ["succeeded", {"o": "real"}, shared]]


# --- REANA ------------------------------------------------------------------------------------------------------


class Controller:
    """The verbs of REANA's job controller, as its workflow engine for yadage has them."""

    def submit(self, job):
        return {"job_id": "4711"}

    def ready(self, job_proxy):
        return job_proxy == {"job_id": "4711"}

    def successful(self, job_proxy):
        return job_proxy == {"job_id": "4711"}

    def fail_info(self, job_proxy):
        return None


def test_reana_s_backend_keeps_nothing_and_publishes_where_it_is_asked(pod, state, tmp_path):
    from packtivity.asyncbackends import ExternalAsyncBackend

    backend = ExternalAsyncBackend(job_backend=Controller())
    proxy = backend.submit(spec(), {"a": 1}, state, NAME)
    document = json.loads(json.dumps(proxy.json()))
    assert set(document["proxydetails"]) == {"resultdata", "jobproxy", "spec", "statedata", "pardata"}
    pod("second")
    before = files_in(tmp_path)
    again_ = load_proxy(document, best_effort_backend=False)
    other = ExternalAsyncBackend(job_backend=Controller())
    assert (other.ready(again_), other.successful(again_)) == (True, True)
    assert other.result(again_).json() == {"o": "real"}
    assert files_in(tmp_path) == before
    assert not (tmp_path / "first").exists()
    assert seal.user_key(make=False) is None
