from __future__ import annotations

import json

import pytest
from specs import command_spec, from_parameters
from waiting import until

from packtivity import errors
from packtivity.asyncbackends import (
    DefaultExternalJobBackend,
    ExternalAsyncBackend,
    ExternalAsyncMixin,
    ExternalAsyncProxy,
    PacktivityProxyBase,
    RemoteResultMixin,
)
from packtivity.backendutils import load_proxy
from packtivity.datamodel import create
from packtivity.statecontexts import LocalFSState

SPEC = command_spec("echo {x} > {out}", from_parameters({"result": "out"}))
PARAMETERS = {"x": 1, "out": "{workdir}/file"}


class Jobs:
    """An outside engine."""

    def __init__(self, success: bool = True) -> None:
        self.success = success

    def submit(self, job):
        self.job = job
        return {"job_id": "7", "resultjson": "somewhere"}

    def ready(self, jobproxy):
        return jobproxy["job_id"] == "7"

    def successful(self, jobproxy):
        return self.success

    def fail_info(self, jobproxy):
        return "it rained"


@pytest.fixture
def state(tmp_path):
    return LocalFSState([str(tmp_path)])


@pytest.mark.parametrize("wrap", [create, dict])
def test_a_job_is_rendered_here_and_published_here(state, wrap):
    jobs = Jobs()
    backend = ExternalAsyncBackend(job_backend=jobs)
    proxy = backend.submit(SPEC, wrap(PARAMETERS), state, metadata={"name": "n"})
    assert jobs.job["job"] == {"command": f"echo 1 > {state.readwrite[0]}/file"}
    assert jobs.job["env"] == {"environment_type": "localproc-env"}
    assert jobs.job["state"] is state
    assert jobs.job["metadata"] == {"name": "n"}
    loaded = ExternalAsyncProxy.fromJSON(json.loads(json.dumps(proxy.json())))
    assert loaded.json() == proxy.json()
    assert backend.ready(loaded)
    assert backend.successful(loaded)
    assert backend.result(loaded).json() == {"result": f"{state.readwrite[0]}/file"}
    assert loaded.resultdata == {"result": f"{state.readwrite[0]}/file"}
    assert backend.result(loaded).json() == loaded.resultdata
    assert backend.prepublish(SPEC, PARAMETERS, state).json() == loaded.resultdata


def test_the_document_is_the_one_that_is_known(state):
    proxy = ExternalAsyncProxy({"job_id": 1}, SPEC, state.json(), PARAMETERS)
    assert list(proxy.json()) == ["proxyname", "proxydetails"]
    assert list(proxy.json()["proxydetails"]) == ["resultdata", "jobproxy", "spec", "statedata", "pardata"]


def test_a_failed_job_raises_what_the_engine_says(state):
    backend = ExternalAsyncBackend(job_backend=Jobs(success=False))
    proxy = backend.submit(SPEC, PARAMETERS, state)
    assert backend.fail_info(proxy) == "it rained"
    with pytest.raises(errors.TaskFailed, match="it rained"):
        backend.result(proxy)


def test_what_is_no_handle_is_refused_by_every_question():
    jobs = DefaultExternalJobBackend()
    for question in (jobs.ready, jobs.successful, jobs.fail_info, jobs.cancel):
        with pytest.raises(errors.ProxyError, match="no handle of a job"):
            question("7")


def test_a_handle_that_is_not_json_becomes_null_and_cannot_be_loaded(state):
    proxy = ExternalAsyncProxy(object(), SPEC, state.json(), PARAMETERS)
    document = json.loads(json.dumps(proxy.json()))
    assert document["proxydetails"]["jobproxy"] is None
    with pytest.raises(RuntimeError, match="has no jobproxy"):
        ExternalAsyncProxy.fromJSON(document)


@pytest.mark.parametrize("missing", ["spec", "statedata", "pardata"])
def test_a_document_with_something_missing_is_refused(missing):
    details = {"jobproxy": 1, "spec": {}, "statedata": {}, "pardata": {}}
    with pytest.raises(errors.ProxyError, match=missing):
        ExternalAsyncProxy.fromJSON({"proxydetails": {name: 1 for name in details if name != missing}})


def test_labels_survive_json(state):
    proxy = ExternalAsyncProxy(1, SPEC, state.json(), PARAMETERS)
    proxy.set_details({"labels": [1]})
    assert ExternalAsyncProxy.fromJSON(json.loads(json.dumps(proxy.json()))).details()["labels"] == [1]


def test_a_subclass_may_keep_live_objects_and_its_own_constructor(state):
    class Theirs(ExternalAsyncProxy):
        def __init__(self, jobproxy, spec, statedata, pardata, resultdata=None):
            self.jobproxy, self.spec, self.statedata = jobproxy, spec, statedata
            self.pardata, self.resultdata = pardata, resultdata

        def proxyname(self):
            return "Theirs"

    parameters = create(PARAMETERS)
    proxy = Theirs(jobproxy={"job_id": 1}, spec=SPEC, statedata=state, pardata=parameters)
    proxy.remote_url = "x"
    assert proxy.details()["statedata"] is state
    assert proxy.json()["proxyname"] == "Theirs"


def test_a_result_can_be_fetched_from_where_the_job_has_put_it(state):
    class Store:
        def get(self, address):
            return {"from": address}

    class Backend(ExternalAsyncMixin, RemoteResultMixin):
        def __init__(self, **kwargs):
            ExternalAsyncMixin.__init__(self, **kwargs)
            RemoteResultMixin.__init__(self, **kwargs)

        def make_external_job(self, spec, parameters, state, metadata):
            return "job"

    backend = Backend(job_backend=Jobs(), resultbackend=Store())
    proxy = backend.submit(SPEC, PARAMETERS, state)
    assert backend.result(proxy).json() == {"from": "somewhere"}
    proxy.resultdata = {"known": 1}
    assert backend.result(proxy).json() == {"known": 1}
    assert backend.prepublish(SPEC, PARAMETERS, state) is None


def test_a_task_without_state_can_be_submitted():
    only = {"process": None, "environment": None, "publisher": {"publisher_type": "constant-pub", "publish": {"a": 1}}}
    backend = ExternalAsyncBackend(job_backend=Jobs())
    assert backend.result(backend.submit(only, {}, None)).json() == {"a": 1}


def test_a_mixin_without_a_job_says_what_is_missing(state):
    with pytest.raises(NotImplementedError, match="make_external_job"):
        ExternalAsyncMixin(job_backend=Jobs()).submit(SPEC, PARAMETERS, state)


def test_the_plainest_proxy_carries_what_it_is_given():
    proxy = PacktivityProxyBase(proxy=0, details={"a": 1})
    assert (proxy.proxy, proxy.json()) == (0, {"proxyname": "PacktivityProxyBase", "proxydetails": {"a": 1}})
    proxy.set_details(None)
    assert proxy.details() is None


@pytest.mark.parametrize("wanted", ["succeeded", "failed"])
def test_a_service_in_a_new_pod_is_told_by_the_job_s_record_and_publishes(tmp_path, monkeypatch, wanted):
    """Its state directory is gone with the old pod; an ExternalAsyncProxy is published by whoever asks."""
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "old-pod"))
    monkeypatch.setenv("PACKTIVITY_LOGGING_STREAM_LEVEL", "CRITICAL")
    state = LocalFSState([str(tmp_path / "work")])
    state.ensure()
    spec = json.loads(json.dumps(SPEC))
    spec["process"]["cmd"] += "" if wanted == "succeeded" else "; exit 3"
    jobs = DefaultExternalJobBackend()
    backend = ExternalAsyncBackend(job_backend=jobs)
    proxy = backend.submit(spec, PARAMETERS, state, {"name": "one"})
    document = json.loads(json.dumps(proxy.json()))
    assert list(document["proxydetails"]) == ["resultdata", "jobproxy", "spec", "statedata", "pardata"]
    until(lambda: backend.ready(proxy))
    jobs.close()
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "new-pod"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again, other = load_proxy(document)
    assert (other.ready(again), other.successful(again)) == (True, wanted == "succeeded")
    if wanted == "succeeded":
        assert other.result(again).json() == {"result": f"{state.readwrite[0]}/file"}
        assert again.json()["proxydetails"]["resultdata"] == {"result": f"{state.readwrite[0]}/file"}
    else:
        assert other.fail_info(again)[0] == "TaskFailed"
        with pytest.raises(errors.TaskFailed, match="exit code 3"):
            other.result(again)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_backend_of_the_shape_of_reana_s_publishes_for_whoever_asks(state):
    """Theirs has a proxy class of its own, whose documents come back through any replica of the service."""

    class ReanaProxy(ExternalAsyncProxy):
        def __init__(self, jobproxy, spec, statedata, pardata, resultdata=None):
            self.jobproxy, self.spec, self.statedata = jobproxy, spec, statedata
            self.pardata, self.resultdata = pardata, resultdata

    class ReanaBackend(ExternalAsyncBackend):
        def submit(self, spec, parameters, state, metadata=None):
            job = self.make_external_job(spec, parameters, state, metadata)
            return ReanaProxy(self.job_backend.submit(job), spec, state.json(), parameters)

    proxy = ReanaBackend(job_backend=Jobs()).submit(SPEC, PARAMETERS, state)
    replica = ReanaBackend(job_backend=Jobs())
    again = ReanaProxy.fromJSON(json.loads(json.dumps(proxy.json())))
    assert replica.ready(again)
    assert replica.result(again).json() == {"result": f"{state.readwrite[0]}/file"}
    assert again.resultdata == {"result": f"{state.readwrite[0]}/file"}
    assert proxy.resultdata is None
