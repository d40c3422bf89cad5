"""The names that other programs import: where, who does, and that each does what they want of it."""

from __future__ import annotations

import inspect
import json
import logging
import types
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from specs import command_spec, from_parameters

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

YADAGE, REANA, RECAST = "yadage", "REANA", "recast-atlas"
PLUGINS, USERS, DEPLOYMENTS = "plug-in modules", "users", "deployments"


@dataclass(frozen=True)
class Row:
    """A name, who imports it, and a check that gets what was imported and a folder."""

    path: str
    name: str
    who: tuple[str, ...]
    check: Callable[[Any, Path], None]
    needs: str | None = None


TABLE: list[Row] = []


def row(path: str, name: str, *who: str, needs: str | None = None) -> Callable[[Any], Any]:
    def add(check: Any) -> Any:
        TABLE.append(Row(path, name, who, check, needs))
        return check

    return add


def spec(cmd: str = "echo {word} > {out}") -> dict[str, Any]:
    return command_spec(cmd, from_parameters({"out": "out"}))


PARAMETERS = {"word": "hello", "out": "{workdir}/out.txt"}


def state_in(folder: Path) -> Any:
    from packtivity.statecontexts import LocalFSState

    state = LocalFSState([str(folder)])
    state.ensure()
    return state


def finalized(folder: Path) -> tuple[Any, Any]:
    from packtivity.syncbackends import finalize_inputs

    return finalize_inputs(PARAMETERS, state_in(folder))


def published(folder: Path) -> dict[str, str]:
    return {"out": f"{folder}/out.txt"}


def with_spec_file(folder: Path) -> str:
    (folder / "spec.yml").write_text(json.dumps(spec()))
    return "spec.yml"


def rendered(folder: Path) -> dict[str, str]:
    return {"command": f"echo hello > {folder}/out.txt"}


# --- packtivity, datamodel, states ------------------------------------------------------------------------------


def takes(callable: Any, *names: str) -> bool:
    """Return whether arguments can be given by these names, the first of them by their place as well."""
    return tuple(inspect.signature(callable).parameters)[: len(names)] == names


@row("packtivity", "pack_object", RECAST)
def _(pack_object, folder):
    options = ("syncbackend", "asyncbackend", "asyncwait", "waitperiod", "timeout")
    assert takes(pack_object(spec()), "parameters", "state", *options)
    packed = pack_object.fromspec(with_spec_file(folder), toplevel=str(folder))
    assert packed(parameters=PARAMETERS, state=state_in(folder)).json() == published(folder)
    assert (folder / "out.txt").read_text() == "hello\n"


@row("packtivity", "load_packtivity", RECAST)
@row("packtivity.utils", "load_packtivity", YADAGE, USERS)
def _(load_packtivity, folder):
    assert takes(load_packtivity, "spec", "toplevel", "schemasource", "validate")
    assert load_packtivity(with_spec_file(folder), toplevel=str(folder)) == spec()
    assert load_packtivity(with_spec_file(folder), str(folder), validate=False) == spec()


@row("packtivity", "datamodel", YADAGE)
def _(datamodel, folder):
    assert isinstance(datamodel, types.ModuleType)
    assert datamodel.create({"b": 1, "a": [2]}).json() == {"b": 1, "a": [2]}


@row("packtivity.datamodel", "create", YADAGE)
def _(create, folder):
    created = create({"file": "/a", "n": 1}, None)
    assert repr(created) == "<TypedLeafs: {'file': '/a', 'n': 1}>"
    assert created.asrefs(callback=lambda pointer: pointer.path) == {"file": "/file", "n": "/n"}


@row("packtivity.typedleafs", "TypedLeafs", USERS)
def _(TypedLeafs, folder):
    leaves = TypedLeafs({"x": {"y": 1}})
    assert leaves.jq(".x").json() == {"y": 1}
    assert leaves["x"]["y"] == 1


@row("packtivity.typedleafs", "LeafModel", USERS)
def _(LeafModel, folder):
    model = LeafModel({"keyword": "$type", "types": {"Number": "fractions:Fraction"}})
    assert model is not None


@row("packtivity.datamodels.purejson", "PureJsonModel", USERS)
def _(PureJsonModel, folder):
    assert PureJsonModel({"x": [1, {"y": 2}]}).json() == {"x": [1, {"y": 2}]}


@row("packtivity.statecontexts", "load_state", YADAGE)
def _(load_state, folder):
    document = state_in(folder).json()
    assert load_state(document).json() == document
    assert load_state(document, {}).readwrite == [str(folder)]


@row("packtivity.statecontexts", "LocalFSState", YADAGE, RECAST)
@row("packtivity.statecontexts.posixfs_context", "LocalFSState", YADAGE, RECAST)
def _(LocalFSState, folder):
    first = LocalFSState(readwrite=[str(folder / "first")], identifier="first")
    second = LocalFSState([str(folder / "second")], dependencies=[first])
    second.ensure()
    assert second.readonly == [str(folder / "first")]
    assert (folder / "second").is_dir()
    assert second.contextualize_value("{workdir}{readdir0}") == f"{folder}/second{folder}/first"


# --- the steps of a task ----------------------------------------------------------------------------------------

SYNC = "packtivity.syncbackends"


@row(SYNC, "defaultsyncbackend", YADAGE)
def _(defaultsyncbackend, folder):
    state = state_in(folder)
    assert defaultsyncbackend().prepublish(spec(), dict(PARAMETERS), state).json() == published(folder)
    only_publishing = {**spec(), "process": None, "environment": None}
    assert defaultsyncbackend().prepublish(only_publishing, {"out": "x"}, None).json() == {"out": "x"}


@row(SYNC, "packconfig", REANA)
def _(packconfig, folder):
    assert packconfig().get_impl("publisher", "frompar-pub") == "default"
    assert packconfig(publisher={"frompar-pub": "mine"}).get_impl("publisher", "frompar-pub") == "mine"


@row(SYNC, "ExecutionConfig", USERS)
def _(ExecutionConfig, folder):
    assert ExecutionConfig({"dry_run": True}).dry_run()
    assert not ExecutionConfig().disable_logging()


@row(SYNC, "container_config", PLUGINS)
def _(container_config, folder):
    assert container_config({"auth_location": "/keys"}).auth_location() == "/keys"


@row(SYNC, "build_job", REANA)
def _(build_job, folder):
    parameters, state = finalized(folder)
    assert build_job(spec()["process"], parameters, state, config()) == rendered(folder)


@row(SYNC, "build_env", USERS)
def _(build_env, folder):
    parameters, state = finalized(folder)
    assert build_env(spec()["environment"], parameters, state, config()) == spec()["environment"]


@row(SYNC, "run_in_env", USERS)
def _(run_in_env, folder):
    from packtivity.syncbackends import ExecutionConfig

    environment = spec()["environment"]
    run_in_env(rendered(folder), environment, state_in(folder), {"name": "one"}, config(), ExecutionConfig())
    assert (folder / "out.txt").read_text() == "hello\n"


@row(SYNC, "publish", REANA)
def _(publish, folder):
    plain = {"out": f"{folder}/out.txt"}
    assert publish(spec()["publisher"], plain, state_in(folder), config()).json() == published(folder)


@row(SYNC, "prepublish", USERS)
def _(prepublish, folder):
    assert prepublish(spec(), PARAMETERS, state_in(folder), config()).json() == published(folder)
    fromyaml = {**spec(), "publisher": {"publisher_type": "fromyaml-pub", "yamlfile": "x.yml"}}
    assert prepublish(fromyaml, PARAMETERS, state_in(folder), config()) is None


@row(SYNC, "finalize_inputs", REANA)
def _(finalize_inputs, folder):
    once = finalize_inputs(PARAMETERS, state_in(folder))
    twice = finalize_inputs(*once)
    assert once[0].json() == twice[0].json() == {"word": "hello", "out": f"{folder}/out.txt"}
    assert twice[1] is once[1]


@row(SYNC, "finalize_outputs", USERS)
def _(finalize_outputs, folder):
    assert finalize_outputs("result") == "result"


@row(SYNC, "acquire_job_env", USERS)
def _(acquire_job_env, folder):
    job, environment = acquire_job_env(spec(), *finalized(folder), {"name": "one"}, config())
    assert (job, environment) == (rendered(folder), spec()["environment"])


@row(SYNC, "run_packtivity", USERS)
def _(run_packtivity, folder):
    from packtivity.syncbackends import ExecutionConfig

    result = run_packtivity(spec(), *finalized(folder), {"name": "one"}, config(), ExecutionConfig())
    assert result.json() == published(folder)


def config() -> Any:
    from packtivity.syncbackends import packconfig

    return packconfig()


# --- asynchronous backends --------------------------------------------------------------------------------------

ASYNC = "packtivity.asyncbackends"


@row(ASYNC, "PacktivityProxyBase", YADAGE)
def _(PacktivityProxyBase, folder):
    class TrivialProxy(PacktivityProxyBase):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            """Leave the base's out, as the engine's own proxy does."""

        def proxyname(self) -> str:
            return "TrivialProxy"

        def details(self) -> Any:
            return {"status": "SUCCESS"}

    assert TrivialProxy().json() == {"proxyname": "TrivialProxy", "proxydetails": {"status": "SUCCESS"}}


@row(ASYNC, "ExternalAsyncProxy", REANA)
def _(ExternalAsyncProxy, folder):
    class Live(ExternalAsyncProxy):  # type: ignore[misc, valid-type]
        def details(self) -> Any:
            return {"jobproxy": self.jobproxy, "statedata": self.statedata.json(), "pardata": self.pardata.json()}

    parameters, state = finalized(folder)
    proxy = Live(jobproxy={"job_id": 7}, spec=spec(), pardata=PARAMETERS, statedata=state)
    proxy.pardata, proxy.statedata = parameters, state
    assert proxy.json()["proxyname"] == "ExternalAsyncProxy"
    assert json.loads(json.dumps(proxy.json()))["proxydetails"]["jobproxy"] == {"job_id": 7}
    assert (proxy.resultdata, proxy.spec) == (None, spec())


class Jobs:
    """What an outside engine looks like."""

    def submit(self, job: Any) -> Any:
        self.job = job
        return {"resultjson": "there"}

    def ready(self, job: Any) -> bool:
        return True

    def successful(self, job: Any) -> bool:
        return True

    def fail_info(self, job: Any) -> str:
        return "nothing"

    def get(self, address: str) -> Any:
        return {"fetched": address}


@row(ASYNC, "ExternalAsyncMixin", DEPLOYMENTS)
def _(ExternalAsyncMixin, folder):
    class Backend(ExternalAsyncMixin):  # type: ignore[misc, valid-type]
        def make_external_job(self, spec: Any, parameters: Any, state: Any, metadata: Any) -> Any:
            return metadata["name"]

    jobs = Jobs()
    backend = Backend(job_backend=jobs, deserialization_opts={})
    proxy = backend.submit(spec(), *finalized(folder), {"name": "one"})
    assert jobs.job == "one"
    assert (backend.ready(proxy), backend.successful(proxy), backend.fail_info(proxy)) == (True, True, "nothing")
    assert proxy.json()["proxydetails"]["pardata"] == {"word": "hello", "out": f"{folder}/out.txt"}


@row(ASYNC, "ExternalAsyncBackend", DEPLOYMENTS)
def _(ExternalAsyncBackend, folder):
    jobs = Jobs()
    backend = ExternalAsyncBackend(job_backend=jobs)
    proxy = backend.submit(spec(), *finalized(folder), {"name": "one"})
    assert jobs.job["job"] == rendered(folder)
    assert backend.result(proxy).json() == published(folder)


@row(ASYNC, "RemoteResultMixin", DEPLOYMENTS)
def _(RemoteResultMixin, folder):
    from packtivity.asyncbackends import ExternalAsyncProxy

    proxy = ExternalAsyncProxy({"resultjson": "there"}, spec(), None, {})
    assert RemoteResultMixin(resultbackend=Jobs()).result(proxy).json() == {"fetched": "there"}


@row(ASYNC, "DefaultExternalJobBackend", USERS)
def _(DefaultExternalJobBackend, folder):
    made = DefaultExternalJobBackend()
    assert all(callable(getattr(made, name)) for name in ("submit", "ready", "successful", "fail_info"))


@row(ASYNC, "PythonCallableAsyncBackend", PLUGINS)
def _(PythonCallableAsyncBackend, folder):
    class Immediately(PythonCallableAsyncBackend):  # type: ignore[misc, valid-type]
        def submit_callable(self, callable: Any) -> Any:
            return callable()

    assert Immediately({}).submit(spec(), *finalized(folder), {"name": "one"}).json() == published(folder)


@row(ASYNC, "ForegroundBackend", YADAGE)
def _(ForegroundBackend, folder):
    backend = ForegroundBackend({})
    proxy = backend.submit({**spec(), "process": None, "environment": None}, datamodel({"out": 1}), None, {"name": "i"})
    assert (backend.ready(proxy), backend.successful(proxy), backend.result(proxy).json()) == (True, True, {"out": 1})


@row(ASYNC, "ForegroundProxy", YADAGE)
def _(ForegroundProxy, folder):
    proxy = ForegroundProxy({"out": 1}, None, True)
    proxy.set_details({"labels": {"backend_hints": "is_purepub"}})
    again = ForegroundProxy.fromJSON(json.loads(json.dumps(proxy.json())))
    assert again.details()["labels"] == {"backend_hints": "is_purepub"}
    assert again.resultdata == {"out": 1}


@row(ASYNC, "MultiProcBackend", YADAGE)
def _(MultiProcBackend, folder):
    backend = MultiProcBackend(1)
    proxy = backend.submit(spec(), *finalized(folder), {"name": "one"})
    assert wait(backend, proxy).json() == published(folder)
    backend.close()


@row(ASYNC, "IPythonParallelBackend", YADAGE, needs="ipyparallel")
def _(IPythonParallelBackend, folder):
    from packtivity.asyncbackends import PythonCallableAsyncBackend
    from packtivity.backends.base import ConfiguredBackend

    assert issubclass(IPythonParallelBackend, (PythonCallableAsyncBackend, ConfiguredBackend))


@row(ASYNC, "CeleryBackend", YADAGE, needs="celery")
def _(CeleryBackend, folder):
    assert all(callable(getattr(CeleryBackend, name)) for name in ("submit", "ready", "successful", "result"))


@row(ASYNC, "CeleryProxy", YADAGE, needs="celery")
def _(CeleryProxy, folder):
    document = {"proxyname": "CeleryProxy", "proxydetails": {"task_id": "an-id"}}
    assert CeleryProxy.fromJSON(document).json() == document


@row(ASYNC, "run_nullary", YADAGE, needs="celery")
def _(run_nullary, folder):
    assert run_nullary.name == "packtivity.asyncbackends.run_nullary"


@row(ASYNC, "default_celeryapp", DEPLOYMENTS, needs="celery")
def _(default_celeryapp, folder):
    assert "packtivity.asyncbackends.run_nullary" in default_celeryapp.tasks


def datamodel(data: Any) -> Any:
    from packtivity.datamodel import create

    return create(data)


def wait(backend: Any, proxy: Any) -> Any:
    from packtivity.api import wait_for

    return wait_for(backend, proxy, 0.01, 60)


# --- by name ----------------------------------------------------------------------------------------------------

UTILS = "packtivity.backendutils"


@row(UTILS, "backend_from_string", YADAGE)
def _(backend_from_string, folder):
    synchronous, backend = backend_from_string("foregroundasync", backendopts={})
    assert not synchronous
    assert not hasattr(backend, "batch_submit")
    assert backend_from_string("defaultsync")[0]


@row(UTILS, "load_proxy", YADAGE)
def _(load_proxy, folder):
    from packtivity.asyncbackends import ForegroundProxy

    assert takes(load_proxy, "jsondata", "deserialization_opts", "best_effort_backend", "raise_on_unknown")
    document = ForegroundProxy({"a": 1}, None, True).json()
    assert load_proxy(document, {}, best_effort_backend=False).json() == document
    proxy, backend = load_proxy(document)
    assert backend.result(proxy).json() == {"a": 1}
    assert load_proxy({"proxyname": "Unheard", "proxydetails": {}}, best_effort_backend=False) is None


@row(UTILS, "proxyloader", YADAGE)
def _(proxyloader, folder):
    from packtivity.backendutils import load_proxy, proxyhandlers

    try:
        proxyloader("CachedForTable")(lambda data, options=None, best_effort_backend=False: data["cacheid"])
        assert load_proxy({"proxyname": "CachedForTable", "cacheid": 3}, None, best_effort_backend=False) == 3
    finally:
        proxyhandlers.pop("CachedForTable", None)


@row(UTILS, "proxyhandlers", YADAGE)
def _(proxyhandlers, folder):
    assert {"ForegroundProxy", "ExternalAsyncProxy"} <= set(proxyhandlers)
    assert callable(proxyhandlers["ForegroundProxy"]["default"])


@row(UTILS, "backend", PLUGINS)
def _(backend, folder):
    from packtivity.backendutils import backend_from_string, backends

    try:
        backend("fortable")(lambda backendstring, backendopts: (False, [backendstring, backendopts]))
        assert backend_from_string("fortable:2", {"x": 1}) == (False, ["fortable:2", {"x": 1}])
    finally:
        backends.pop("fortable", None)


@row(UTILS, "backends", PLUGINS)
def _(backends, folder):
    assert {"defaultsync", "foregroundasync", "fromenv", "py:"} <= set(backends)


# --- handlers, plug-ins -----------------------------------------------------------------------------------------

KINDS = {"process": "string-interpolated-cmd", "environment": "docker-encapsulated", "publisher": "frompar-pub"}


def check_handlers(kind: str) -> Callable[[Any, Path], None]:
    def check(handlers: Any, folder: Path) -> None:
        assert callable(handlers[KINDS.get(kind, "localproc-env")]["default"])

    return check


def check_decorator(kind: str) -> Callable[[Any, Path], None]:
    def check(decorator: Any, folder: Path) -> None:
        table = import_module(f"packtivity.handlers.{kind}_handlers").handlers
        try:
            decorator("for-table")(len)
            decorator("for-table", "other")(repr)
            assert table["for-table"] == {"default": len, "other": repr}
        finally:
            table.pop("for-table", None)

    return check


for kind in ("process", "environment", "execution", "publisher"):
    module = f"packtivity.handlers.{kind}_handlers"
    row(module, "handlers", PLUGINS)(check_handlers(kind))
    row(module, "executor" if kind == "execution" else kind, PLUGINS)(check_decorator(kind))


@row("packtivity.handlers.execution_handlers", "command_argv", PLUGINS)
def _(command_argv, folder):
    made = command_argv({"envscript": "/setup.sh"}, {"command": "ls"}, logging.getLogger("table"))
    assert made == (["sh", "-c", "source /setup.sh && ls"], None, False)


@row("packtivity.handlers.execution_handlers", "script_argv", PLUGINS)
def _(script_argv, folder):
    job = {"script": "ls\n", "interpreter": "bash -e"}
    assert script_argv({"envscript": ""}, job, logging.getLogger("table")) == (["sh", "-c", "bash -e"], "ls\n", False)


@row("packtivity.plugins", "enable_plugins", YADAGE)
def _(enable_plugins, folder):
    enable_plugins([])
    enable_plugins(["json"])


@row("packtivity.utils", "leaf_iterator", YADAGE, USERS)
def _(leaf_iterator, folder):
    found = [(pointer.path, value) for pointer, value in leaf_iterator({"b": [1, None], "a": {"c": "x"}})]
    assert found == [("/b/0", 1), ("/a/c", "x")]


@row("packtivity.utils", "handler_decorator", YADAGE, PLUGINS)
def _(handler_decorator, folder):
    table, decorator = handler_decorator()
    decorator("one")(len)
    assert table == {"one": {"default": len}}


@row("packtivity.utils", "mkdir_p", YADAGE, PLUGINS)
def _(mkdir_p, folder):
    mkdir_p(str(folder / "a" / "b"))
    mkdir_p(str(folder / "a" / "b"))
    assert (folder / "a" / "b").is_dir()


@row("packtivity.kubernetes", "DirectExternalKubernetesBackend", DEPLOYMENTS, needs="kubernetes")
def _(DirectExternalKubernetesBackend, folder):
    context = {"name": "a", "context": {"cluster": "a", "user": "a", "namespace": "mine"}}
    found = {
        "clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "a", "user": {"token": "t"}}],
        "contexts": [context],
        "current-context": "a",
    }
    (folder / "kubeconfig").write_text(json.dumps(found))
    upstream = {"claim_name": "data", "path_base": str(folder), "secrets": {"hepauth": "a", "hepimgcred": []}}
    upstream |= {"svcaccount": "default", "state_type": "claim", "collapse_state": False, "inject_krb": False}
    backend = DirectExternalKubernetesBackend(kubeconfig=str(folder / "kubeconfig"), **upstream)
    assert backend.cluster.namespace == "mine"
    proxy = backend.submit({"process": None, "environment": None, "publisher": spec()["publisher"]}, {"out": 1}, None)
    assert backend.ready(proxy)
    assert backend.result(proxy).json() == {"out": 1}


# --- logs -------------------------------------------------------------------------------------------------------

LOGS = "packtivity.logutils"


@row(LOGS, "setup_logging_topic", USERS, PLUGINS)
def _(setup_logging_topic, folder):
    from packtivity.syncbackends import ExecutionConfig

    with setup_logging_topic(ExecutionConfig(), {"name": "one"}, state_in(folder), "step", return_logger=True) as log:
        assert log.name == "pack.one.step"
        log.info("something happened")
    assert "| INFO | something happened" in " ".join((folder / "_packtivity" / "one.step.log").read_text().split())


@row(LOGS, "default_logging_handlers", PLUGINS)
def _(default_logging_handlers, folder):
    from packtivity.syncbackends import ExecutionConfig

    log = logging.Logger("table")  # noqa: LOG001 - one that nobody else has
    default_logging_handlers(ExecutionConfig(), log, {"name": "one"}, state_in(folder), "run")
    log.info("a line")
    for handler in log.handlers:
        handler.close()
    assert "a line" in (folder / "_packtivity" / "one.run.log").read_text()


@row(LOGS, "LOGFORMAT", PLUGINS)
def _(LOGFORMAT, folder):
    assert LOGFORMAT == "%(asctime)s | %(name)20.20s | %(levelname)6s | %(message)s"


@row(LOGS, "formatter", PLUGINS)
def _(formatter, folder):
    assert isinstance(formatter, logging.Formatter)


@row(LOGS, "get_base_loggername", PLUGINS)
def _(get_base_loggername, folder):
    assert get_base_loggername({"name": "one"}) == "pack.one"


@row(LOGS, "get_topic_loggername", PLUGINS)
def _(get_topic_loggername, folder):
    assert get_topic_loggername({"name": "one"}, "run") == "pack.one.run"


# --- commands ---------------------------------------------------------------------------------------------------


def check_command(command: Any, folder: Path) -> None:
    from click.testing import CliRunner

    assert CliRunner().invoke(command, ["--help"]).exit_code == 0


for name in ("runcli", "validatecli", "utilcli", "checkproxy"):
    row("packtivity.cli", name, USERS)(check_command)


@row("packtivity.cli", "getinit_data", PLUGINS)
def _(getinit_data, folder):
    assert getinit_data((), ("a=1", "b=[x, y]")) == {"a": 1, "b": ["x", "y"]}


# --- the test ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: f"{entry.path}.{entry.name}")
def test_what_others_import_does_what_they_want_of_it(entry, tmp_path, monkeypatch):
    if entry.needs:
        pytest.importorskip(entry.needs)
    monkeypatch.setenv("PACKTIVITY_LOGGING_STREAM_LEVEL", "CRITICAL")
    for name in ("PACKTIVITY_ASYNCBACKEND", "PACKTIVITY_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    assert entry.who
    module = import_module(entry.path)
    entry.check(getattr(module, entry.name), tmp_path)
