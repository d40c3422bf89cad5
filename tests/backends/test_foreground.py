from __future__ import annotations

import json

import pytest
from specs import command_spec, constant

from packtivity import errors, record_fields
from packtivity.backends.base import ForegroundBackend, PythonCallableAsyncBackend, defaultsyncbackend
from packtivity.backends.proxies import ForegroundProxy
from packtivity.backends.registry import load_proxy
from packtivity.statecontexts import LocalFSState

QUIET = {"exec": {"logging_level": "CRITICAL"}}


def spec(cmd="echo {x} > {out}", publish=None):
    return command_spec(cmd, constant({"a": 1} if publish is None else publish))


@pytest.fixture
def state(tmp_path):
    return LocalFSState([str(tmp_path)])


@pytest.fixture
def backend():
    return ForegroundBackend(QUIET)


def again(proxy):
    """What another process sees of a proxy."""
    return load_proxy(json.loads(json.dumps(proxy.json())))


def test_a_task_that_succeeds_gives_the_document_word_for_word(backend, state):
    proxy = backend.submit(spec("true"), {}, state)
    assert json.dumps(proxy.json()) == (
        '{"proxyname": "ForegroundProxy", "proxydetails": {"resultdata": {"a": 1}, "datamodel": null, "success": true}}'
    )
    for asked, by in ((proxy, backend), again(proxy)):
        assert (by.ready(asked), by.successful(asked), by.fail_info(asked)) == (True, True, None)
        assert by.result(asked).json() == {"a": 1}


def test_publishing_nothing_is_a_success(backend, state):
    proxy, other = again(backend.submit(spec("true", {}), {}, state))
    assert other.successful(proxy) is True
    assert other.result(proxy).json() == {}


def test_a_task_that_fails_gives_a_failed_proxy(backend, state):
    proxy = backend.submit(spec("echo no; exit 3"), {}, state)
    details = proxy.json()["proxydetails"]
    assert (details["resultdata"], details["success"]) == (None, False)
    assert details["failure"]["returncode"] == 3
    for asked, by in ((proxy, backend), again(proxy)):
        assert (by.ready(asked), by.successful(asked)) == (True, False)
        kind, message = by.fail_info(asked)
        assert kind == "TaskFailed"
        assert message.startswith("the task failed with exit code 3")
        with pytest.raises(errors.TaskFailed, match="exit code 3") as caught:
            by.result(asked)
        assert caught.value.returncode == 3


def test_any_error_of_a_handler_is_a_failure_of_the_task(backend, state):
    proxy = backend.submit({**spec(), "publisher": {}}, {"x": 1, "out": "o"}, state)
    assert not backend.successful(proxy)
    assert backend.fail_info(proxy)[0] == "KeyError"


def test_an_interrupt_is_no_failure_of_the_task(backend, state, monkeypatch):
    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr("packtivity.backends.base.run_packtivity", interrupted)
    with pytest.raises(KeyboardInterrupt):
        backend.submit(spec(), {}, state)


@pytest.mark.parametrize("command", ["true", "false"])
def test_labels_survive_json(backend, state, command):
    proxy = backend.submit(spec(command), {}, state)
    proxy.set_details({"labels": {"step": "a"}})
    once, _ = again(proxy)
    twice, _ = again(once)
    assert twice.details()["labels"] == {"step": "a"}
    assert twice.json() == once.json()
    assert twice.details()["success"] is (command == "true")


def test_a_task_without_state_runs(backend):
    only = {"process": None, "environment": None, "publisher": {"publisher_type": "constant-pub", "publish": {"a": 1}}}
    assert backend.result(backend.submit(only, {}, None)).json() == {"a": 1}


def test_the_logs_have_the_name_of_asynchronous_tasks(backend, state, tmp_path):
    backend.submit(spec("true"), {}, state)
    backend.submit(spec("true"), {}, state, metadata={"name": "mine"})
    names = {path.name.partition(".")[0] for path in (tmp_path / "_packtivity").iterdir()}
    assert names == {"packtivity", "mine"}


def test_a_proxy_document_with_something_missing_is_refused():
    with pytest.raises(errors.ProxyError, match="no 'success'"):
        ForegroundProxy.fromJSON({"proxydetails": {"resultdata": 1, "datamodel": None}})
    with pytest.raises(errors.ProxyError, match="no mapping called proxydetails"):
        ForegroundProxy.fromJSON({})
    failed = {"resultdata": None, "datamodel": None, "success": False, "failure": "lost"}
    with pytest.raises(errors.ProxyError, match="failure is not a mapping"):
        ForegroundProxy.fromJSON({"proxydetails": failed})


def test_a_failed_proxy_that_says_nothing_more_still_raises(backend):
    proxy = ForegroundProxy(None, None, success=False)
    assert backend.fail_info(proxy) == ("TaskFailed", "")
    with pytest.raises(errors.TaskFailed, match="nothing more is known"):
        backend.result(proxy)


def test_a_failure_without_exit_code_has_none():
    assert record_fields.failure(ValueError("x")) == {"type": "ValueError", "message": "x"}


def test_a_failed_proxy_raises_in_another_process_what_it_would_have_raised_here(backend):
    proxy = ForegroundProxy(None, None, success=False, details={"failure": {"type": "TaskTimeout", "message": "long"}})
    with pytest.raises(errors.TaskTimeout, match="long"):
        backend.result(ForegroundProxy.fromJSON(proxy.json()))


# --- shapes ----------------------------------------------------------------------------------------------------


def test_an_engine_of_python_callables_needs_one_method(state):
    class Engine(PythonCallableAsyncBackend):
        def submit_callable(self, callable):
            return callable

    nullary = Engine(QUIET).submit(spec("true"), {}, state)
    assert nullary.keywords["metadata"] == {"name": "packtivity"}
    assert nullary.func(*nullary.args, **nullary.keywords).json() == {"a": 1}
    with pytest.raises(NotImplementedError):
        PythonCallableAsyncBackend().submit(spec("true"), {}, state)


def test_backends_leave_their_configuration_as_it_was(state):
    config = {"exec": {"logging_level": "CRITICAL"}, "publisher": {"a": "b"}}
    for make in (defaultsyncbackend, ForegroundBackend):
        made = make(config)
        assert made.exec_config.stream_loglevel() == "CRITICAL"
        assert made.pack_config.get_impl("publisher", "a") == "b"
    assert config == {"exec": {"logging_level": "CRITICAL"}, "publisher": {"a": "b"}}


def test_prepublishing_is_the_same_on_every_backend(state):
    for make in (defaultsyncbackend, ForegroundBackend):
        assert make().prepublish(spec(), {}, state).json() == {"a": 1}
        assert make().prepublish(spec(), {}, None).json() == {"a": 1}
