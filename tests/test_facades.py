"""What programs import from here, name by name, and that the façades hold nothing of their own."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "packtivity"

TABLE = {
    "packtivity": "pack_object load_packtivity",
    "packtivity.datamodel": "create",
    "packtivity.typedleafs": "TypedLeafs LeafModel",
    "packtivity.datamodels.purejson": "PureJsonModel",
    "packtivity.statecontexts": "load_state LocalFSState",
    "packtivity.statecontexts.posixfs_context": "LocalFSState",
    "packtivity.syncbackends": (
        "defaultsyncbackend packconfig ExecutionConfig container_config build_job build_env run_in_env publish "
        "prepublish finalize_inputs finalize_outputs acquire_job_env run_packtivity"
    ),
    "packtivity.asyncbackends": (
        "PacktivityProxyBase ExternalAsyncProxy ExternalAsyncMixin ExternalAsyncBackend RemoteResultMixin "
        "PythonCallableAsyncBackend ForegroundBackend ForegroundProxy DefaultExternalJobBackend MultiProcBackend "
        "IPythonParallelBackend CeleryBackend CeleryProxy run_nullary default_celeryapp"
    ),
    "packtivity.kubernetes": "DirectExternalKubernetesBackend",
    "packtivity.backendutils": "backend_from_string load_proxy proxyloader proxyhandlers backend backends",
    "packtivity.handlers.process_handlers": "handlers process",
    "packtivity.handlers.environment_handlers": "handlers environment",
    "packtivity.handlers.execution_handlers": "handlers executor command_argv script_argv",
    "packtivity.handlers.publisher_handlers": "handlers publisher",
    "packtivity.plugins": "enable_plugins",
    "packtivity.utils": "load_packtivity leaf_iterator handler_decorator mkdir_p",
    "packtivity.logutils": (
        "setup_logging_topic default_logging_handlers LOGFORMAT formatter get_base_loggername get_topic_loggername"
    ),
    "packtivity.cli": "runcli validatecli utilcli checkproxy",
}

FACADES = [
    "asyncbackends",
    "backendutils",
    "datamodels/__init__",
    "datamodels/purejson",
    "kubernetes/__init__",
    "logutils",
    "syncbackends",
    "typedleafs",
    "utils",
]


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in TABLE for name in TABLE[module].split()])
def test_what_programs_import_is_there(module, name):
    assert getattr(import_module(module), name) is not None


@pytest.mark.parametrize("kind", ["process", "environment", "execution", "publisher"])
def test_handlers_are_found_by_kind_and_implementation(kind):
    handlers = import_module(f"packtivity.handlers.{kind}_handlers").handlers
    assert all(callable(function) for table in handlers.values() for function in table.values())
    assert all("default" in table for table in handlers.values())


@pytest.mark.parametrize("name", FACADES)
def test_a_facade_holds_only_imports(name):
    tree = ast.parse((SOURCE / f"{name}.py").read_text(encoding="utf-8"))
    for statement in tree.body:
        docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        names = isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"
        assert docstring or names or isinstance(statement, (ast.Import, ast.ImportFrom)), ast.unparse(statement)


@pytest.mark.parametrize("name", [name for name in FACADES if not name.endswith("__init__")])
def test_a_facade_lists_what_it_imports(name):
    module = import_module("packtivity." + name.replace("/", "."))
    imported = {
        alias.asname or alias.name
        for statement in ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body
        if isinstance(statement, ast.ImportFrom) and statement.module != "__future__"
        for alias in statement.names
    }
    assert set(module.__all__) == imported


def test_an_old_plug_in_can_make_a_table_of_its_own():
    from packtivity.utils import handler_decorator

    table, decorator = handler_decorator()

    @decorator("a")
    def one():
        return 1

    @decorator("a", "other")
    def two():
        return 2

    assert table == {"a": {"default": one, "other": two}}


def test_making_a_directory_twice_is_fine(tmp_path):
    from packtivity.utils import mkdir_p

    for _ in range(2):
        mkdir_p(str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").is_dir()
