"""States on a file system."""

from __future__ import annotations

import copy
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from packtivity import lease, runners
from packtivity.datamodel import PureJsonModel, TypedLeafs, create
from packtivity.errors import MissingParameter, ParameterError, StateError
from packtivity.interpolate import MissingName, TemplateError
from packtivity.statecontexts import InvalidState, LocalFSState
from packtivity.statecontexts.trees import tree_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMON = settings(
    deadline=None,
    max_examples=500 if "PACKTIVITY_SOAK_SECONDS" in os.environ else 60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# --- directories ---


def test_the_work_directory_is_the_first_given_everywhere() -> None:
    state = LocalFSState(["/z", "/b", "/a"])
    assert state.readwrite == ["/z", "/a", "/b"]
    assert state.metadir == "/z/_packtivity"
    assert state.contextualize_value("{workdir}") == "/z"
    assert [entry["path"] for entry in state.json()["readwrite"]] == ["/a", "/b", "/z"]


def test_the_work_directory_survives_its_json() -> None:
    state = LocalFSState(["/z", "/a"], ["/r", "/q"], identifier="mine")
    again = LocalFSState.fromJSON(json.loads(json.dumps(state.json())))
    assert again.readwrite == ["/z", "/a"]
    assert again.json() == state.json()
    assert again.dirnames == state.dirnames
    assert again.identifier() == "mine"
    assert LocalFSState.fromJSON(again.json()).readwrite == ["/z", "/a"]


def test_a_work_directory_with_a_name_of_its_own_is_called_workdir() -> None:
    state = LocalFSState([{"path": "/b", "name": "out"}, {"path": "/a", "name": "more"}])
    assert state.dirnames == {"more": "/a", "workdir": "/b"}


def test_a_read_only_directory_cannot_take_the_name_of_the_work_directory() -> None:
    assert LocalFSState(["/w"], [{"path": "/r", "name": "workdir"}]).contextualize_value("{workdir}") == "/w"


def test_paths_are_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    state = LocalFSState(["link"], [tmp_path / "link", {"path": "link/../real"}])
    real = os.path.realpath(tmp_path / "real")
    assert state.readwrite == [real]
    assert state.readonly == [real, real]


PATHS = st.sampled_from(["/a", "/b", "/c/d", "/c", "/Z", "/é"])
NAMED = st.builds(lambda path, name: {"path": path, "name": name}, PATHS, st.sampled_from(["n", "m", "readdir0"]))
DIRECTORIES = st.none() | st.lists(PATHS | NAMED | st.builds(lambda path: {"path": path}, PATHS), max_size=4)


@COMMON
@given(readwrite=DIRECTORIES, readonly=DIRECTORIES, identifier=st.text(max_size=5))
@example(readwrite=["/b", "/a"], readonly=["/d", "/c"], identifier="x")
def test_json_and_names_are_those_of_the_original(
    readwrite: Any, readonly: Any, identifier: str, data_oracle: Any
) -> None:
    arguments = {"readwrite": readwrite, "readonly": readonly, "identifier": identifier}
    state = LocalFSState(**copy.deepcopy(arguments))
    assert {"json": state.json(), "dirnames": state.dirnames} == data_oracle.ask("state", arguments=arguments)


def test_dependencies_are_read_from() -> None:
    writer = LocalFSState(["/out/b", "/out/a"], ["/in"])
    reader = LocalFSState(None, ["/shared"])
    state = LocalFSState(["/w"], ["/first"], dependencies=[writer, reader])
    assert state.dirnames == {
        "workdir": "/w", "readdir0": "/first", "readdir1": "/out/a", "readdir2": "/out/b", "readdir3": "/shared",
    }  # fmt: skip


def test_dependencies_are_numbered_alike_in_whatever_order_they_come() -> None:
    first, second = LocalFSState(["/a"]), LocalFSState(["/b", "/c"])
    states = [LocalFSState(["/w"], ["/z"], dependencies=given) for given in ([first, second], [second, first])]
    assert states[0].json() == states[1].json()
    assert states[0].dirnames == {
        "readdir0": "/z",
        "readdir1": "/a",
        "readdir2": "/b",
        "readdir3": "/c",
        "workdir": "/w",
    }


def test_dependencies_of_another_class_keep_their_order() -> None:
    class Other:
        readwrite = ("/z", "/a")
        readonly = ()

    assert LocalFSState(dependencies=[Other()]).dirnames == {"readdir0": "/z", "readdir1": "/a"}


def test_arguments_are_not_changed_and_json_is_nobody_elses() -> None:
    readwrite = [{"path": "/w/../w"}]
    readonly = ["/r"]
    state = LocalFSState(readwrite, readonly, dependencies=[LocalFSState(["/d"])])
    state.json()["readwrite"][0]["path"] = "/elsewhere"
    assert readwrite == [{"path": "/w/../w"}]
    assert readonly == ["/r"]
    assert state.json()["readwrite"] == [{"path": "/w", "name": "workdir"}]


def test_more_keys_of_a_directory_are_kept() -> None:
    assert LocalFSState([], [{"path": "/r", "name": "n", "x": 1}]).json()["readonly"] == [
        {"path": "/r", "name": "n", "x": 1}
    ]


def test_a_state_without_directories() -> None:
    state = LocalFSState()
    assert (state.readwrite, state.readonly, state.metadir, state.identifier()) == ([], [], None, "unidentified_state")
    state.ensure()
    state.reset()
    assert repr(state) == "<LocalFSState rw: [], ro: []>"


@pytest.mark.parametrize("bad", ["/path", {"path": "/p"}, 3])
def test_directories_that_are_no_list_are_a_type_error(bad: Any) -> None:
    for arguments in ({"readwrite": bad}, {"readonly": bad}):
        with pytest.raises(InvalidState, match="is a list of directories") as caught:
            LocalFSState(**arguments)
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, StateError)


@pytest.mark.parametrize("bad", [3, None, {"name": "n"}, {"path": None}, ["/a"], "nul\0", {"path": "/a", "name": []}])
def test_a_directory_that_is_no_path_is_shown(bad: Any) -> None:
    with pytest.raises(InvalidState, match="a directory of a state is a path"):
        LocalFSState(["/w", bad])


@pytest.mark.parametrize("bad", [{}, {"identifier": "x", "readwrite": []}, None, 3, []])
def test_a_state_document_that_lacks_a_key_is_shown(bad: Any) -> None:
    with pytest.raises(InvalidState, match="lacks one of"):
        LocalFSState.fromJSON(bad)


def test_a_state_can_be_copied() -> None:
    state = LocalFSState(["/w"], ["/r"])
    assert copy.deepcopy(state).json() == state.json()


# --- ensure, check ---


def test_ensure_makes_directories_and_does_it_again(tmp_path: Path) -> None:
    state = LocalFSState([str(tmp_path / "a" / "b"), str(tmp_path / "c")])
    state.ensure()
    state.ensure()
    assert (tmp_path / "a" / "b" / "_packtivity").is_dir()
    assert (tmp_path / "c").is_dir()
    assert not (tmp_path / "c" / "_packtivity").exists()


def test_ensure_without_read_write_directories_does_nothing(tmp_path: Path) -> None:
    LocalFSState(None, [str(tmp_path)]).ensure()
    assert list(tmp_path.iterdir()) == []


def test_ensure_says_which_directory_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"file/x cannot be made(?s:.*)may write to"):
        LocalFSState([str(tmp_path / "file" / "x")]).ensure()


@pytest.mark.parametrize("taken", ["out", "out/_packtivity"])
def test_ensure_says_what_is_no_directory(taken: str, tmp_path: Path) -> None:
    file = tmp_path / taken
    file.parent.mkdir(exist_ok=True)
    file.touch()
    with pytest.raises(StateError, match=rf"{file} is not a directory\n.*that is meant"):
        LocalFSState([tmp_path / "out"]).ensure()


# --- reset ---


def test_reset_empties_and_makes(tmp_path: Path) -> None:
    state = LocalFSState([str(tmp_path / "w"), str(tmp_path / "v")])
    (tmp_path / "w" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "w" / "file").touch()
    state.reset()
    assert os.listdir(tmp_path / "w") == ["_packtivity"]
    assert os.listdir(tmp_path / "v") == []


def test_reset_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").touch()
    (tmp_path / "w" / "sub").mkdir(parents=True)
    for link in (tmp_path / "w" / "link", tmp_path / "w" / "sub" / "link"):
        link.symlink_to(tmp_path / "outside")
    (tmp_path / "w" / "dangling").symlink_to("nowhere")
    LocalFSState([str(tmp_path / "w")]).reset()
    assert (tmp_path / "outside" / "precious").exists()
    assert os.listdir(tmp_path / "w") == ["_packtivity"]


def test_reset_keeps_read_only_directories_inside(tmp_path: Path) -> None:
    for name in ("w/in/kept/data", "w/in/gone", "w/top", "w/in/kept-not"):
        (tmp_path / name).mkdir(parents=True)
    LocalFSState([str(tmp_path / "w")], [str(tmp_path / "w/in/kept"), str(tmp_path / "w/top")]).reset()
    left = sorted(str(path.relative_to(tmp_path / "w")) for path in (tmp_path / "w").rglob("*"))
    assert left == ["_packtivity", "in", "in/kept", "in/kept/data", "top"]


def test_reset_refuses_the_root_and_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "diary").touch()
    for path in ("/", str(tmp_path)):
        with pytest.raises(StateError, match="more than a task's data"):
            LocalFSState([path]).reset()
    assert (tmp_path / "diary").exists()


def test_reset_refuses_a_directory_that_has_become_something_else(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious").touch()
    state = LocalFSState([str(tmp_path / "w")])
    (tmp_path / "w").symlink_to("other")
    with pytest.raises(StateError, match="no longer a directory"):
        state.reset()
    (tmp_path / "w").unlink()
    (tmp_path / "w").touch()
    with pytest.raises(StateError, match="no longer a directory"):
        state.reset()
    assert (tmp_path / "other" / "precious").exists()


def test_reset_says_what_cannot_be_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()

    def refuse(path: str) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(StateError, match=r"cannot be emptied: Operation not permitted: .*file"):
        LocalFSState([str(tmp_path)]).reset()


@pytest.fixture
def left_running(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start what a task may leave: a process on whose inherited descriptor the lock of a state file hangs."""
    started = []

    def start(runner_lives: bool) -> subprocess.Popen[bytes]:
        dead = subprocess.Popen(["true"])
        dead.wait()
        holder = lease.take(str(tmp_path / "w" / "_packtivity" / "one.0123.state.json"))
        process = subprocess.Popen(["sleep", "60"], pass_fds=[holder.descriptor])
        started.append(process)
        state = {"runner": runners.runner() if runner_lives else {**runners.runner(), "pid": dead.pid}}
        Path(holder.path).write_text(json.dumps(state))
        holder.leave()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_reset_ends_what_is_left_of_a_task_whose_runner_was_killed(tmp_path: Path, left_running: Any) -> None:
    process = left_running(runner_lives=False)
    LocalFSState([str(tmp_path / "w")]).reset()
    assert process.wait(timeout=10) == -signal.SIGTERM
    assert os.listdir(tmp_path / "w" / "_packtivity") == []


def test_reset_keeps_the_state_file_of_a_task_that_still_runs(tmp_path: Path, left_running: Any) -> None:
    process = left_running(runner_lives=True)
    (tmp_path / "w" / "_packtivity" / "one.run.log").touch()
    LocalFSState([str(tmp_path / "w")]).reset()
    assert process.poll() is None
    assert os.listdir(tmp_path / "w" / "_packtivity") == ["one.0123.state.json"]


# --- hash ---

NAMES = st.sampled_from(["a", "b", "é", ".h", "x y", "B", "a\nb"])
FILES = st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=5), max_size=6)


def _plant(root: Path, files: dict[str, bytes]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = root / name
        if not any(parent.is_file() for parent in path.parents) and not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


@COMMON
@given(trees=st.lists(FILES, min_size=3, max_size=3))
def test_the_hash_of_a_tree_is_that_of_the_original(
    trees: list[dict[str, bytes]], data_oracle: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("state")
    for name, files in zip("zab", trees, strict=True):
        _plant(root / name, files or {"f": b""})  # upstream fails on a tree without files
    (root / "z" / "empty" / "nested").mkdir(parents=True, exist_ok=True)
    (root / "z" / "to-a").symlink_to("../a")
    (root / "z" / "dangling").symlink_to("nowhere")
    arguments = {"readwrite": [f"{root}/z", f"{root}/a"], "readonly": [f"{root}/b", f"{root}/gone"]}
    assert LocalFSState(**arguments).state_hash() == data_oracle.ask("state_hash", arguments=arguments)


def test_an_empty_directory_has_a_hash(tmp_path: Path) -> None:
    state = LocalFSState([str(tmp_path)])
    empty = state.state_hash()
    (tmp_path / "sub").mkdir()
    assert state.state_hash() == empty
    (tmp_path / "sub" / "f").touch()
    assert state.state_hash() != empty
    assert len(empty) == 40


def test_pipes_and_sockets_are_not_read(tmp_path: Path) -> None:
    before = tree_hash(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert tree_hash(str(tmp_path)) == before


def test_a_link_in_a_circle_is_hashed_by_where_it_leads(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "f").write_text("x")
    (tmp_path / "one" / "sub" / "up").symlink_to("..")
    (tmp_path / "two" / "sub" / "up").symlink_to(".")
    first, second = tree_hash(str(tmp_path / "one")), tree_hash(str(tmp_path / "two"))
    assert first != second
    assert first == tree_hash(str(tmp_path / "one"))


def test_names_that_are_not_text_are_hashed(tmp_path: Path) -> None:
    before = tree_hash(str(tmp_path))
    (tmp_path / os.fsdecode(b"\xff")).touch()
    assert tree_hash(str(tmp_path)) != before


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("packtivity.statecontexts.trees._file_hash", refuse)
    (tmp_path / "secret").touch()
    with pytest.raises(StateError, match=r"cannot be hashed: Permission denied: .*secret"):
        LocalFSState([str(tmp_path)]).state_hash()


# --- contextualising ---

ARGUMENTS = {"readwrite": ["/w"], "readonly": ["/r", {"path": "/s", "name": "data"}]}
VALUES = st.one_of(
    st.lists(
        st.sampled_from(
            [
                "{workdir}", "{readdir0}", "{data}", "{}", "{0}", "{{", "}}", "{{x}}", "{unknown}", "{", "}", "plain", "/",
                "{workdir!r}", "{workdir:>9}", "{workdir[0]}", "{workdir[x]}", "{workdir.nothing}", "{readdir1}", "{:x}",
                "{workdir[99]}", "{workdir:{}}", "{workdir:d}",
            ]
        ),
        max_size=4,
    ).map("".join),
    st.sampled_from([1, 1.5, True, False, None, ["{workdir}"], {"a": "{workdir}"}]),
    st.text(alphabet="{}workdir ", max_size=12),
)  # fmt: skip


@COMMON
@given(value=VALUES)
def test_a_value_is_contextualised_as_in_the_original(value: Any, data_oracle: Any) -> None:
    expected = data_oracle.ask("contextualise", arguments=ARGUMENTS, value=value)
    try:
        found = LocalFSState(**ARGUMENTS).contextualize_value(value)
    except KeyError:
        found = {"error": "KeyError"}
    except TemplateError:
        found = {"error": "ValueError"}
    if expected == {"error": "TypeError"}:
        expected = {"error": "ValueError"}
    assert found == expected


def test_internals_of_a_path_are_out_of_reach() -> None:
    with pytest.raises(TemplateError):
        LocalFSState(["/w"]).contextualize_value("{workdir.__class__}")


LEAVES = st.sampled_from(["{workdir}/x", "{readdir0}", "{}", "{{x}}", "plain", 1, 2.5, True, False, None, ""])
PARAMETERS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("bac{é"), inner, max_size=3), max_leaves=10
)  # fmt: skip


@COMMON
@given(data=PARAMETERS)
def test_a_document_is_contextualised_as_in_the_original(data: Any, data_oracle: Any) -> None:
    found = json.dumps(LocalFSState(**ARGUMENTS).model(create(data)).json())
    assert found == data_oracle.ask("model", arguments=ARGUMENTS, data=data)


@pytest.mark.parametrize("kind", [TypedLeafs, PureJsonModel])
def test_the_document_given_stays_as_it_is_so_it_can_be_contextualised_again(kind: Any) -> None:
    doc = kind({"a": ["{workdir}/{{x}}"], "n": 1})
    state = LocalFSState(["/w"])
    assert state.model(doc).json() == {"a": ["/w/{x}"], "n": 1}
    assert state.model(doc).json() == {"a": ["/w/{x}"], "n": 1}
    assert state.model(state.model(kind(["{workdir}"]))).json() == ["/w"]


@pytest.mark.parametrize("kind", [TypedLeafs, PureJsonModel])
def test_an_unknown_name_is_told_with_its_parameter(kind: Any) -> None:
    doc = kind({"fine": "{workdir}", "in": {"files": ["{workdir}/a", "{wrkdir}/b"]}})
    with pytest.raises(MissingName) as caught:
        LocalFSState(["/w"], ["/r"]).model(doc)
    message = str(caught.value)
    assert "parameter in/files/1: '{wrkdir}/b'" in message
    assert "Did you mean {workdir}?" in message
    assert "{{ and }}" in message
    assert "{workdir}, {readdir0}" in message
    assert isinstance(caught.value, MissingParameter)
    assert caught.value.name == "wrkdir"


def test_a_directory_to_read_that_was_not_given_is_told_how_to_give() -> None:
    with pytest.raises(MissingName, match=r"give one more with -r/--read .*This state has: \{workdir\}\."):
        LocalFSState(["/w"]).model(TypedLeafs({"code": "{readdir0}/x"}))


def test_a_lone_brace_is_told_with_its_parameter() -> None:
    with pytest.raises(
        TemplateError, match=r"parameter cmd: \"awk .*\": brace that is not(?s:.*)\{\{ and \}\}"
    ) as caught:
        LocalFSState(["/w"]).model(create({"cmd": "awk '{"}))
    assert isinstance(caught.value, ParameterError)
    assert caught.value.offset == 5


def test_a_document_that_is_one_string_is_told_as_such() -> None:
    with pytest.raises(MissingName, match=r"parameter document: '\{x\}'(?s:.*)no directories"):
        LocalFSState().model(create("{x}"))


def test_a_document_of_another_class_is_contextualised_by_its_own_means() -> None:
    class Document(dict[str, Any]):
        def copy(self) -> Document:
            return Document(self)

        def leafs(self) -> Any:
            return list(self.items())

        def replace(self, key: str, value: Any) -> None:
            self[key] = value

    assert LocalFSState(["/w"]).model(Document(a="{workdir}", n=1)) == {"a": "/w", "n": 1}


def test_contextualising_takes_linear_time() -> None:
    """Counts bytecode calls rather than seconds: a quadratic walk would show on any machine."""
    program = """
import sys
from packtivity.datamodel import create
from packtivity.statecontexts import LocalFSState
state = LocalFSState(["/w"])
def calls(leaves):
    data = {str(n): "{workdir}/x" for n in range(leaves)}
    count = 0
    def profile(frame, event, arg):
        nonlocal count
        count += 1
    sys.setprofile(profile)
    state.model(create(data))
    sys.setprofile(None)
    return count
print(calls(1000) / calls(100))
"""
    ratio = float(subprocess.check_output([sys.executable, "-c", program]))
    assert 8 < ratio < 12
