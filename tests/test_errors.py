"""Errors of ours: each that stands for one of the operating system is one, whoever raises it."""

from __future__ import annotations

import ast
import builtins
import copy
import errno
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import packtivity
from packtivity import errors
from packtivity.errors import PacktivityError, StateError
from packtivity.statecontexts import LocalFSState
from packtivity.utils import mkdir_p

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(packtivity.__file__).parent
SYSTEM = {name for name, found in vars(builtins).items() if isinstance(found, type) and issubclass(found, OSError)}
OURS = [getattr(errors, name) for name in errors.__all__ if name != "TaskFailed"]  # which needs an exit code


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("theirs", [FileNotFoundError, PermissionError, BrokenPipeError, TimeoutError, OSError])
def test_every_error_can_stand_for_one_of_the_system(kind: Any, theirs: Any) -> None:
    system = theirs(errno.ENOENT if theirs is OSError else errno.EACCES, "not so", "/a/file")
    made = kind.of(system, "what is wrong", hint="what to do")
    for error in (made, pickle.loads(pickle.dumps(made)), copy.copy(made)):
        assert isinstance(error, kind)
        assert isinstance(error, type(system))
        assert (error.errno, error.strerror, error.filename) == (system.errno, "not so", "/a/file")
        assert (str(error), error.args[0]) == ("what is wrong\n  what to do", "what is wrong")
        assert (type(error).__name__, type(error).__module__) == (kind.__name__, kind.__module__)
        assert error.exit_code == kind.exit_code
        assert type(error) is type(made)


@pytest.mark.parametrize("kind", OURS)
def test_an_error_that_stands_for_another_one_is_none_of_the_system(kind: Any) -> None:
    made = kind.of(ValueError("no"), "what is wrong")
    assert type(made) is kind
    assert not isinstance(made, OSError)


def handled() -> Iterator[tuple[str, ast.Call]]:
    """Give each error that is made where one of the system was caught, or by a function that is given one."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ExceptHandler) and node.type is not None:
                made = [one.exc for one in ast.walk(node) if isinstance(one, ast.Raise)]
            elif isinstance(node, ast.FunctionDef) and path.name != "root_error.py":
                made = [one.value for one in ast.walk(node) if isinstance(one, ast.Return)]
            else:
                continue
            caught = [node.type] if isinstance(node, ast.ExceptHandler) else [one.annotation for one in node.args.args]
            names = {getattr(one, "id", "") for each in caught if each for one in ast.walk(each)}
            if names & SYSTEM:
                yield from ((f"{path.name}:{one.lineno}", one) for one in made if isinstance(one, ast.Call))


def test_what_is_raised_for_an_error_of_the_system_is_one() -> None:
    kinds = set(errors.__all__) | {
        node.name
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") in errors.__all__ for base in node.bases)
    }
    made = list(handled())
    plain = [place for place, call in made if getattr(call.func, "id", getattr(call.func, "attr", "")) in kinds]
    assert plain == []
    assert sum(getattr(call.func, "attr", "") == "of" for _, call in made) > 30


def test_a_directory_that_is_a_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError) as caught:
        mkdir_p(str(tmp_path / "file"))
    assert isinstance(caught.value, StateError)
    with pytest.raises(NotADirectoryError):
        mkdir_p(str(tmp_path / "file" / "below"))
    with pytest.raises(FileExistsError):
        LocalFSState([str(tmp_path / "file")]).ensure()


@pytest.mark.parametrize(
    ("read", "theirs"),
    [
        (lambda: packtivity.load("none.yml"), FileNotFoundError),
        (lambda: packtivity.load("."), IsADirectoryError),
        (lambda: packtivity.load("none/none.yml"), FileNotFoundError),
    ],
)
def test_a_spec_that_is_not_there_is_an_error_of_the_system(
    read: Any, theirs: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(theirs) as caught:
        read()
    assert isinstance(caught.value, PacktivityError)
    assert isinstance(caught.value, RuntimeError)  # as 0.17.1 raised


def test_a_file_that_a_task_should_have_written_is_missed_as_by_the_original(tmp_path: Path) -> None:
    spec = {
        "process": {"process_type": "string-interpolated-cmd", "cmd": "true"},
        "environment": {"environment_type": "localproc-env"},
        "publisher": {"publisher_type": "fromyaml-pub", "yamlfile": "none.yml"},
    }
    with pytest.raises(FileNotFoundError) as caught:
        packtivity.run(spec, workdir=str(tmp_path))
    assert isinstance(caught.value, errors.PublishError)
