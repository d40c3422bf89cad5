from __future__ import annotations

import sys
import types

import pytest

from packtivity import errors
from packtivity.asyncbackends import ExternalAsyncProxy, ForegroundBackend
from packtivity.backendutils import backend, backend_from_string, backends, load_proxy, proxyhandlers, proxyloader
from packtivity.syncbackends import defaultsyncbackend

FOREGROUND = {"proxyname": "ForegroundProxy", "proxydetails": {"resultdata": 1, "datamodel": None, "success": True}}
EXTERNAL = {
    "proxyname": "ExternalAsyncProxy",
    "proxydetails": {"jobproxy": 1, "spec": {}, "statedata": None, "pardata": {}, "resultdata": None},
}


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    for name in ("PACKTIVITY_ASYNCBACKEND", "PACKTIVITY_ASYNCBACKEND_OPTS"):
        monkeypatch.delenv(name, raising=False)
    for table in (backends, proxyhandlers):
        for name in list(table):
            monkeypatch.setitem(table, name, dict(table[name]))
    before = [(table, set(table)) for table in (backends, proxyhandlers)]
    yield
    for table, names in before:
        for name in set(table) - names:
            del table[name]


@pytest.fixture
def theirs(monkeypatch):
    """A module with a backend and a proxy, as REANA and others have them."""
    module = types.ModuleType("their_engine")

    class Backend:
        def __init__(self, **options):
            self.options = options

    class Proxy(ExternalAsyncProxy):
        pass

    module.Backend, module.Proxy = Backend, Proxy  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_engine", module)
    return module


# --- backends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "synchronous", "kind"),
    [("defaultsync", True, defaultsyncbackend), ("foregroundasync", False, ForegroundBackend)],
)
def test_backends_that_are_built_in(name, synchronous, kind):
    found = backend_from_string(name)
    assert found[0] is synchronous
    assert type(found[1]) is kind


def test_options_reach_the_backend_and_stay_the_callers():
    options = {"config": {"exec": {"strict": True}}}
    _, made = backend_from_string("foregroundasync", options)
    assert made.exec_config.strict
    assert options == {"config": {"exec": {"strict": True}}}


def test_the_size_of_a_pool_is_an_option_too():
    assert backend_from_string("multiproc", {"poolsize": 3})[1].poolsize == 3
    assert backend_from_string("multiproc:2", {"poolsize": 3})[1].poolsize == 2


def test_options_from_a_file_come_on_top(theirs, tmp_path, monkeypatch):
    (tmp_path / "o.yml").write_text("a: 1\nb: 2\n")
    monkeypatch.setenv("PACKTIVITY_ASYNCBACKEND_OPTS", str(tmp_path / "o.yml"))
    given = {"a": 0, "c": 3}
    assert backend_from_string("py:their_engine:Backend", given)[1].options == {"a": 1, "b": 2, "c": 3}
    assert given == {"a": 0, "c": 3}


@pytest.mark.parametrize(
    ("text", "message"), [(None, "cannot be read"), ("{", "is not YAML"), ("[1]", "not a mapping")]
)
def test_a_file_of_options_that_cannot_be_used_is_named(text, message, tmp_path, monkeypatch):
    file = tmp_path / "o.yml"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("PACKTIVITY_ASYNCBACKEND_OPTS", str(file))
    with pytest.raises(errors.ConfigurationError, match=message):
        backend_from_string("defaultsync")


def test_an_empty_file_of_options_is_no_options(tmp_path, monkeypatch):
    (tmp_path / "o.yml").write_text("")
    monkeypatch.setenv("PACKTIVITY_ASYNCBACKEND_OPTS", str(tmp_path / "o.yml"))
    assert backend_from_string("defaultsync")[0]


def test_options_that_do_not_fit_are_named():
    with pytest.raises(errors.BackendError, match=r"'defaultsync' cannot be made with the options \['pool'\]"):
        backend_from_string("defaultsync", {"pool": 1})


def test_a_backend_that_cannot_be_started_is_named(theirs):
    def refuse():
        raise OSError(111, "Connection refused")

    theirs.Backend = refuse
    with pytest.raises(
        errors.BackendError, match=r"'py:their_engine:Backend' cannot be started: Connection\w+: .*refused"
    ):
        backend_from_string("py:their_engine:Backend")


def test_a_class_can_be_named(theirs):
    found = backend_from_string("py:their_engine:Backend")
    assert found[0] is False
    assert isinstance(found[1], theirs.Backend)


@pytest.mark.parametrize("name", ["py:", "py:their_engine", "py:their_engine:Bakend", "py:no_such_module:X"])
def test_a_class_that_is_not_there_is_a_backend_error(name, theirs):
    with pytest.raises(errors.BackendError):
        backend_from_string(name)


def test_the_environment_can_name_a_backend_whose_proxy_class_does_not_exist(theirs, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_ASYNCBACKEND", "their_engine:Backend:NoSuchProxy")
    assert isinstance(backend_from_string("fromenv")[1], theirs.Backend)


@pytest.mark.parametrize("value", [None, "", "only", ":a:b"])
def test_an_environment_that_names_none_is_explained(value, monkeypatch):
    if value is not None:
        monkeypatch.setenv("PACKTIVITY_ASYNCBACKEND", value)
    with pytest.raises(errors.BackendError, match="PACKTIVITY_ASYNCBACKEND"):
        backend_from_string("fromenv")


def test_plug_ins_are_found_by_name_with_arguments_and_by_open_prefix():
    for name in ("mine", "mine2", "open-"):

        @backend(name)
        def make(backendstring, backendopts, name=name):
            return False, (name, backendstring, backendopts)

    assert backend_from_string("mine:4", {"a": 1})[1] == ("mine", "mine:4", {"a": 1})
    assert backend_from_string("mine2")[1][0] == "mine2"
    assert backend_from_string("open-ended")[1][0] == "open-"


@pytest.mark.parametrize(("name", "near"), [("foregroundasink", "foregroundasync"), ("defaultsync2", "defaultsync")])
def test_an_unknown_backend_is_an_error_with_the_nearest(name, near):
    with pytest.raises(errors.BackendError, match=f"no backend is called '{name}'") as caught:
        backend_from_string(name)
    assert f"Did you mean '{near}'?" in caught.value.hint
    assert "There are: celery, defaultsync, externalasync, foregroundasync, fromenv" in caught.value.hint
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize("name", ["", ":", "::", "p"])
def test_a_string_that_is_no_name_is_an_error(name):
    with pytest.raises(errors.BackendError):
        backend_from_string(name)


# --- proxies ---------------------------------------------------------------------------------------------------


def test_a_proxy_comes_with_its_backend_or_without():
    proxy, made = load_proxy(FOREGROUND)
    assert made.result(proxy).json() == 1
    assert load_proxy(FOREGROUND, best_effort_backend=False).resultdata == 1


def test_a_proxy_of_somebody_elses_is_loaded_by_its_loader():
    @proxyloader("CachedProxy")
    def load(jsondata, deserialization_opts=None, best_effort_backend=False):
        return jsondata["proxydetails"], deserialization_opts, best_effort_backend

    document = {"proxyname": "CachedProxy", "proxydetails": 5}
    assert load_proxy(document, {"a": 1}, False) == (5, {"a": 1}, False)


def test_an_external_proxy_belongs_to_the_backend_of_the_environment(theirs, monkeypatch):
    assert load_proxy(EXTERNAL, best_effort_backend=False).jobproxy == 1
    monkeypatch.setenv("PACKTIVITY_ASYNCBACKEND", "their_engine:Backend:NoSuchProxy")
    proxy, made = load_proxy(EXTERNAL)
    assert isinstance(made, theirs.Backend)
    assert type(proxy) is ExternalAsyncProxy


def test_the_proxy_class_of_the_environment_is_for_what_nobody_else_knows(theirs, monkeypatch):
    unknown = {**EXTERNAL, "proxyname": "TheirProxy"}
    monkeypatch.setenv("PACKTIVITY_ASYNCBACKEND", "their_engine:Backend:Proxy")
    proxy, made = load_proxy(unknown)
    assert type(proxy) is theirs.Proxy
    assert isinstance(made, theirs.Backend)
    assert load_proxy(FOREGROUND, best_effort_backend=False).resultdata == 1


def test_a_proxy_class_can_be_named(theirs, monkeypatch):
    unknown = {**EXTERNAL, "proxyname": "TheirProxy"}
    options = {"proxy": "py:their_engine:Proxy"}
    assert type(load_proxy(unknown, options, best_effort_backend=False)) is theirs.Proxy
    assert load_proxy(unknown, options)[1] is None
    monkeypatch.setenv("PACKTIVITY_ASYNCBACKEND", "their_engine:Backend:NoSuchProxy")
    assert isinstance(load_proxy(unknown, options)[1], theirs.Backend)
    assert options == {"proxy": "py:their_engine:Proxy"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("their_engine:Backend", "names no proxy class"),
        ("their_engine:Backend:Backend", r"has no 'Backend\.fromJSON'"),
    ],
)
def test_an_environment_whose_proxy_class_cannot_be_used_is_explained(setting, message, theirs, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_ASYNCBACKEND", setting)
    with pytest.raises(errors.BackendError, match=f"PACKTIVITY_ASYNCBACKEND.*{message}"):
        load_proxy({**EXTERNAL, "proxyname": "TheirProxy"})


def test_a_proxy_that_only_an_option_can_load_says_so():
    with pytest.raises(errors.ProxyError, match="option proxy"):
        load_proxy({"proxyname": "frompython", "proxydetails": {}})


@pytest.mark.parametrize("name", ["PacktivityProxyBase", "Unheard"])
def test_a_proxy_nobody_knows_is_none_or_an_error(name):
    document = {"proxyname": name, "proxydetails": {}}
    assert load_proxy(document) == (None, None)
    assert load_proxy(document, best_effort_backend=False) is None
    with pytest.raises(errors.ProxyError, match=f"unknown proxy type: {name}"):
        load_proxy(document, raise_on_unknown=True)


@pytest.mark.parametrize("document", [None, [], {}, {"proxyname": 3}, "x"])
def test_what_is_no_proxy_document_is_refused(document):
    with pytest.raises(errors.ProxyError, match="no proxy document"):
        load_proxy(document)
