"""Publishers."""

from __future__ import annotations

import copy
import io
import os
from typing import TYPE_CHECKING, Any

import pytest

from packtivity.datamodel import PureJsonModel, TypedLeafs
from packtivity.errors import ConfigurationError, MissingParameter, ParameterError, PublishError
from packtivity.handlers.publisher_handlers import can_prepublish, declared_paths, handlers, publisher
from packtivity.spec.parts import PUBLISHERS
from packtivity.statecontexts import LocalFSState

if TYPE_CHECKING:
    from pathlib import Path


def published(kind: str, spec: dict[str, Any], parameters: Any, state: Any = None) -> Any:
    document = parameters if hasattr(parameters, "typed") else TypedLeafs(parameters)
    before = copy.deepcopy(spec), copy.deepcopy(document.json())
    found = publisher.find(kind)(spec, document, state)
    assert (spec, document.json()) == before, "what was given was changed"
    return TypedLeafs(found, getattr(document, "leafmodel", None)).json()


@pytest.fixture
def files(workdir: Path) -> Path:
    (workdir / "sub").mkdir()
    for name in ("b.txt", "a.txt", "c.root", "sub/d.txt"):
        (workdir / name).write_text("x")
    return workdir


class TestFrompar:
    def test_leaves_name_parameters_also_in_lists_and_maps(self) -> None:
        outputmap = {"a": "x", "b": [{"c": "y"}, [], {}, None, False]}
        assert published("frompar-pub", {"outputmap": outputmap}, {"x": [1, 2], "y": None}) == {
            "a": [1, 2],
            "b": [{"c": None}, [], {}, None, False],
        }

    def test_typed_leaves_are_published_whole(self, leaf_model: Any) -> None:
        document = TypedLeafs({"f": {"$t": "leaf", "path": "/p"}}, leaf_model)
        assert published("frompar-pub", {"outputmap": {"o": "f"}}, document) == {"o": {"$t": "leaf", "path": "/p"}}

    @pytest.mark.parametrize("form", [dict, PureJsonModel])
    def test_every_form_of_parameters_will_do(self, form: Any) -> None:
        assert publisher.find("frompar-pub")({"outputmap": {"o": "x"}}, form({"x": 1}), None) == {"o": 1}

    def test_whole_numbers_pick_from_a_list_document(self) -> None:
        assert published("frompar-pub", {"outputmap": {"o": 1}}, ["a", "b"]) == {"o": "b"}

    def test_a_missing_parameter_is_named_with_its_place_and_the_nearest(self) -> None:
        spec = {"outputmap": {"good": "outfile", "b": [{"c": "outfil"}]}}
        with pytest.raises(MissingParameter, match="Did you mean 'outfile'") as caught:
            published("frompar-pub", spec, {"outfile": 1})
        assert isinstance(caught.value, KeyError)
        assert "publisher.outputmap.b[0].c: no parameter is called 'outfil'" in str(caught.value)

    @pytest.mark.parametrize("parameters", [["a"], "text", 7, None])
    def test_names_need_named_parameters(self, parameters: Any) -> None:
        with pytest.raises(MissingParameter, match="no parameter is called 'x'"):
            published("frompar-pub", {"outputmap": {"o": "x"}}, parameters)


class TestConstant:
    def test_what_the_spec_says_apart_from_the_spec(self) -> None:
        spec = {"publish": {"a": ["{x}", None]}}
        found = publisher.find("constant-pub")(spec, TypedLeafs({}), None)
        assert found == spec["publish"]
        assert found["a"] is not spec["publish"]["a"]


def interpolated(publish: Any, parameters: Any, state: Any = None, **flags: bool) -> Any:
    return published("interpolated-pub", {"publish": publish, **flags}, parameters, state)


class TestInterpolated:
    def test_strings_are_filled_and_the_rest_stays(self, state: LocalFSState) -> None:
        found = interpolated({"a": "{x}/{workdir}", "b": [1, True, None, False, "{{x}}"]}, {"x": "v"}, state)
        assert found == {"a": f"v/{state.readwrite[0]}", "b": [1, True, None, False, "{x}"]}

    def test_lists_are_written_as_python_does(self) -> None:
        assert interpolated("{l}", {"l": [1, "a"]}) == "[1, 'a']"

    def test_a_parameter_called_workdir_wins(self, state: LocalFSState) -> None:
        assert interpolated("{workdir}", {"workdir": "mine"}, state) == "mine"

    @pytest.mark.parametrize(("document", "text"), [(["a"], "{0}{workdir}"), ("a", "{value}{workdir}")])
    def test_lists_and_scalars_as_documents(self, document: Any, text: str, state: LocalFSState) -> None:
        assert interpolated(text, document, state) == f"a{state.readwrite[0]}"

    def test_a_match_makes_a_list_and_none_the_text(self, files: Path, state: LocalFSState) -> None:
        found = interpolated({"a": "{workdir}/*.txt", "b": "{workdir}/*.no"}, {}, state, glob=True)
        assert found == {"a": [f"{files}/a.txt", f"{files}/b.txt"], "b": f"{files}/*.no"}

    def test_relative_paths_are_in_the_work_directory(self, files: Path, state: LocalFSState) -> None:
        found = interpolated(["a.txt", "/abs", "", "../up"], {}, state, relative_paths=True)
        assert found == [f"{files}/a.txt", "/abs", f"{files}/", f"{files}/../up"]

    def test_without_a_match_a_relative_pattern_stays_as_filled(self, files: Path, state: LocalFSState) -> None:
        found = interpolated(["*.txt", "*.no"], {}, state, relative_paths=True, glob=True)
        assert found == [[f"{files}/a.txt", f"{files}/b.txt"], "*.no"]

    def test_relative_paths_need_a_work_directory(self) -> None:
        with pytest.raises(PublishError, match="relative_paths needs a work directory"):
            interpolated("a", {}, None, relative_paths=True)

    def test_without_a_work_directory_its_name_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MissingParameter, match=r"publisher\.publish.*'workdir'"):
            interpolated("{workdir}", {}, LocalFSState(readonly=[str(tmp_path)]))

    def test_python_s_internals_are_out_of_reach(self, state: LocalFSState) -> None:
        with pytest.raises(ParameterError, match="__class__"):
            interpolated("{workdir.__class__}", {}, state)


class TestDirectoriesWithWildcardsInTheirNames:
    @pytest.fixture
    def named(self, tmp_path: Path) -> Path:
        for name in ("run1", "run[1]", "in1", "in[1]"):
            (tmp_path / name).mkdir()
            (tmp_path / name / f"{name}.txt").write_text("x")
        return tmp_path

    @pytest.mark.parametrize(
        ("kind", "spec"),
        [
            ("fromglob-pub", {"outputkey": "o", "globexpression": "*.txt"}),
            ("interpolated-pub", {"publish": {"o": "{workdir}/*.txt"}, "glob": True}),
            ("interpolated-pub", {"publish": {"o": "*.txt"}, "glob": True, "relative_paths": True}),
            ("interpolated-pub", {"publish": {"o": "{out}"}, "glob": True}),
            ("fromparjq-pub", {"script": "{o: .out}", "glob": True}),
            ("fromparjq-pub", {"script": '{o: "*.txt"}', "glob": True, "relative_paths": True}),
        ],
    )
    def test_a_work_directory_is_no_pattern(self, kind: str, spec: dict[str, Any], named: Path) -> None:
        workdir = f"{named}/run[1]"
        found = published(kind, spec, {"out": f"{workdir}/*.txt"}, LocalFSState([workdir]))
        assert found == {"o": [f"{workdir}/run[1].txt"]}

    def test_nor_is_a_directory_to_read(self, named: Path) -> None:
        state = LocalFSState([f"{named}/run[1]"], [f"{named}/in[1]"])
        found = interpolated("{inputs}/*", {"inputs": f"{named}/in[1]"}, state, glob=True)
        assert found == [f"{named}/in[1]/in[1].txt"]
        state = LocalFSState([], [f"{named}/in[1]"])
        found = published("fromparjq-pub", {"script": '"*.txt"', "glob": True, "relative_paths": True}, {}, state)
        assert found == [f"{named}/in[1]/in[1].txt"]

    def test_the_directory_itself_is_published_as_it_is(self, named: Path) -> None:
        state = LocalFSState([f"{named}/run[1]"])
        assert interpolated("{workdir}", {}, state, glob=True) == [f"{named}/run[1]"]

    def test_what_is_no_directory_of_the_state_is_a_pattern(self, named: Path) -> None:
        state = LocalFSState([f"{named}/run[1]"])
        found = interpolated("{where}/*", {"where": f"{named}/in[1]"}, state, glob=True)
        assert found == [f"{named}/in1/in1.txt"]


class TestFromglob:
    def test_paths_are_sorted(self, files: Path, state: LocalFSState) -> None:
        spec = {"globexpression": "*.txt", "outputkey": "o"}
        assert published("fromglob-pub", spec, {}, state) == {"o": [f"{files}/a.txt", f"{files}/b.txt"]}

    def test_nothing_found_is_an_empty_list(self, state: LocalFSState) -> None:
        assert published("fromglob-pub", {"globexpression": "*.no", "outputkey": "o"}, {}, state) == {"o": []}

    @pytest.mark.parametrize("where", [None, LocalFSState()])
    def test_it_needs_a_work_directory(self, where: Any) -> None:
        with pytest.raises(PublishError, match="fromglob-pub needs a work directory"):
            published("fromglob-pub", {"globexpression": "*", "outputkey": "o"}, {}, where)


class TestFromyaml:
    def publish(self, workdir: Path, text: str | bytes, state: Any) -> Any:
        (workdir / "out.yml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return published("fromyaml-pub", {"yamlfile": "out.yml"}, {}, state)

    def test_what_the_file_says(self, workdir: Path, state: LocalFSState) -> None:
        assert self.publish(workdir, "a: [1, x]\n2: {b: yes}\n", state) == {"a": [1, "x"], "2": {"b": True}}

    def test_dates_stay_strings(self, workdir: Path, state: LocalFSState) -> None:
        assert self.publish(workdir, "d: 2017-05-01\n", state) == {"d": "2017-05-01"}

    def test_an_empty_file_is_null(self, workdir: Path, state: LocalFSState) -> None:
        assert self.publish(workdir, "", state) is None

    def test_what_is_not_yaml_is_told_with_its_position(self, workdir: Path, state: LocalFSState) -> None:
        with pytest.raises(PublishError, match=r"publisher\.yamlfile: .*out\.yml:2:\d+"):
            self.publish(workdir, "a: 1\nb: [1, }\n", state)

    def test_bytes_that_are_no_text_are_told(self, workdir: Path, state: LocalFSState) -> None:
        with pytest.raises(PublishError, match=r"out\.yml"):
            self.publish(workdir, b"a: \xff\xfe\n", state)

    def test_a_missing_file_is_told_with_what_is_near(self, workdir: Path, state: LocalFSState) -> None:
        (workdir / "output.yml").write_text("")
        with pytest.raises(PublishError, match=r"outputs\.yml' cannot be read: No such file") as caught:
            published("fromyaml-pub", {"yamlfile": "outputs.yml"}, {}, state)
        assert "'output.yml'" in caught.value.hint

    def test_a_missing_directory_is_told(self, state: LocalFSState) -> None:
        with pytest.raises(PublishError, match="cannot be read") as caught:
            published("fromyaml-pub", {"yamlfile": "no/out.yml"}, {}, state)
        assert "run log" in caught.value.hint

    @pytest.mark.parametrize("name", [".", "a\0b"])
    def test_what_is_no_file_is_told(self, name: str, state: LocalFSState) -> None:
        with pytest.raises(PublishError, match="cannot be read"):
            published("fromyaml-pub", {"yamlfile": name}, {}, state)

    def test_what_could_be_read_for_ever_is_not_read(self, workdir: Path, state: LocalFSState) -> None:
        os.mkfifo(workdir / "pipe")
        (workdir / "zeros").symlink_to("/dev/zero")
        for name in ("pipe", "zeros"):
            with pytest.raises(PublishError, match=f"{name}' cannot be read: not a regular file"):
                published("fromyaml-pub", {"yamlfile": name}, {}, state)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_a_file_without_permission_is_told(self, workdir: Path, state: LocalFSState) -> None:
        (workdir / "out.yml").touch(0o000)
        with pytest.raises(PublishError, match="Permission denied"):
            published("fromyaml-pub", {"yamlfile": "out.yml"}, {}, state)


def fromjq(parameters: Any, state: Any = None, **spec: Any) -> Any:
    return published("fromparjq-pub", spec, parameters, state)


class TestFromparjq:
    def test_the_program_runs_on_the_parameters(self, state: LocalFSState) -> None:
        assert fromjq({"a": "x", "b": [1]}, state, script="{o: .a, p: .b[0]}") == {"o": "x", "p": 1}

    @pytest.mark.parametrize("script", [".", "{a, b, c}"])
    def test_numbers_that_are_only_moved_stay_what_they_are(self, script: str, state: LocalFSState) -> None:
        document = {"a": 12345678901234567890, "b": 1.0, "c": 0.1}
        found = fromjq(document, state, script=script)
        assert {key: repr(value) for key, value in found.items()} == {
            "a": "12345678901234567890",
            "b": "1.0",
            "c": "0.1",
        }

    def test_the_order_of_keys_is_the_program_s(self, state: LocalFSState) -> None:
        assert list(fromjq({"a": 1, "b": 2}, state, script="{z: .a, c: .b}")) == ["z", "c"]

    def test_what_exists_is_published_as_its_path(self, files: Path, state: LocalFSState) -> None:
        found = fromjq({"a": "a.txt", "b": "no.txt", "c": None, "d": 3}, state, relative_paths=True)
        assert found == {"a": f"{files}/a.txt", "b": "no.txt", "c": None, "d": 3}

    def test_what_matches_is_published_as_a_list(self, files: Path, state: LocalFSState) -> None:
        found = fromjq({"a": "*.txt", "b": "a.txt", "c": "*.no"}, state, relative_paths=True, glob=True)
        assert found == {"a": [f"{files}/a.txt", f"{files}/b.txt"], "b": f"{files}/a.txt", "c": "*.no"}

    def test_without_exact_matches_a_single_path_is_a_list_too(self, files: Path, state: LocalFSState) -> None:
        found = fromjq({"a": "a.txt"}, state, relative_paths=True, glob=True, tryExact=False)
        assert found == {"a": [f"{files}/a.txt"]}

    def test_absolute_paths_are_looked_up_as_they_are(self, files: Path, state: LocalFSState) -> None:
        found = fromjq({"a": f"{files}/*.root"}, state, glob=True, relative_paths=True)
        assert found == {"a": [f"{files}/c.root"]}

    def test_without_a_state_nothing_is_looked_up(self) -> None:
        assert fromjq({"a": "*"}, None, glob=True, relative_paths=True) == {"a": "*"}

    def test_one_read_only_directory_stands_in_for_the_work_directory(self, files: Path) -> None:
        where = LocalFSState(readonly=[str(files)])
        assert fromjq({"a": "a.txt"}, where, relative_paths=True) == {"a": f"{files}/a.txt"}

    def test_of_several_read_only_directories_none_does(self, files: Path) -> None:
        where = LocalFSState(readonly=[str(files), str(files / "sub")])
        assert fromjq({"a": "a.txt"}, where, relative_paths=True) == {"a": "a.txt"}

    def test_typed_leaves_pass_through_untouched(self, files: Path, state: LocalFSState, leaf_model: Any) -> None:
        document = TypedLeafs({"f": {"$t": "leaf", "path": "a.txt"}, "s": "a.txt"}, leaf_model)
        found = fromjq(document, state, script="{o: .f, p: .s}", relative_paths=True)
        assert found == {"o": {"$t": "leaf", "path": "a.txt"}, "p": f"{files}/a.txt"}

    @pytest.mark.parametrize("script", ["{", 'error("no")', "empty", ".a.b"])
    def test_a_program_that_fails_is_told(self, script: str, state: LocalFSState) -> None:
        with pytest.raises(PublishError, match=r"publisher\.script: jq program"):
            fromjq({"a": "x"}, state, script=script)

    def test_plain_parameters_will_do(self) -> None:
        found = publisher.find("fromparjq-pub")({"script": ".a"}, {"a": 1}, None)
        assert TypedLeafs(found).json() == 1


class TestPrepublishing:
    EMPTY = LocalFSState(readonly=["/somewhere"])
    FULL = LocalFSState(["/somewhere"])

    class Derived(LocalFSState):
        """Files that nobody here sees."""

    @pytest.mark.parametrize("kind", ["frompar-pub", "constant-pub"])
    @pytest.mark.parametrize("where", [None, EMPTY, FULL, Derived(["/somewhere"])])
    def test_always_from_parameters_and_constants(self, kind: str, where: Any) -> None:
        assert can_prepublish({"publisher_type": kind}, where)

    @pytest.mark.parametrize("kind", ["interpolated-pub", "fromparjq-pub"])
    @pytest.mark.parametrize(
        ("glob", "where", "known"),
        [
            (True, None, True),
            (True, EMPTY, True),
            (True, FULL, False),
            (False, FULL, True),
            (False, Derived(["/somewhere"]), False),
        ],
    )
    def test_texts_where_nothing_is_looked_for(self, kind: str, glob: bool, where: Any, known: bool) -> None:
        assert can_prepublish({"publisher_type": kind, "glob": glob}, where) is known

    @pytest.mark.parametrize("kind", ["fromglob-pub", "fromyaml-pub", "manual-instructions-pub", "somebody-elses-pub"])
    def test_never_for_others(self, kind: str) -> None:
        assert not can_prepublish({"publisher_type": kind}, None)


class TestDeclaredPaths:
    def declared(self, result: Any, state: Any, kind: str = "interpolated-pub") -> list[Any]:
        return declared_paths({"publisher_type": kind}, result, state)

    def test_absolute_paths_inside_the_directories(self, tmp_path: Path) -> None:
        where = LocalFSState([str(tmp_path / "w")], [str(tmp_path / "r")])
        result = {"a": f"{tmp_path}/w/x", "b": [1, f"{tmp_path}/r/y"], "c": "/elsewhere", "d": "x", "e": None}
        assert self.declared(TypedLeafs(result), where) == [
            (("a",), f"{tmp_path}/w/x"),
            (("b", 1), f"{tmp_path}/r/y"),
        ]

    def test_a_directory_with_a_longer_name_is_another_one(self, state: LocalFSState) -> None:
        assert self.declared({"a": f"{state.readwrite[0]}2/x"}, state) == []

    @pytest.mark.parametrize("text", ["W/f.root:tree", "W/a W/b", "W/a\nb", "W/a;b", "W"])
    def test_what_may_be_more_than_a_path_is_left_out(self, text: str, state: LocalFSState) -> None:
        assert self.declared({"a": text.replace("W", state.readwrite[0])}, state) == []

    def test_a_colon_in_the_work_directory_itself_does_no_harm(self, tmp_path: Path) -> None:
        where = LocalFSState([str(tmp_path / "a:b")])
        assert self.declared(f"{tmp_path}/a:b/x", where) == [((), f"{tmp_path}/a:b/x")]

    def test_nothing_without_a_state_and_nothing_that_was_found_by_looking(self, state: LocalFSState) -> None:
        result = {"a": f"{state.readwrite[0]}/x"}
        assert self.declared(result, None) == []
        assert self.declared(result, state, "fromglob-pub") == []


def test_publishing_nothing_is_a_result() -> None:
    assert published("constant-pub", {"publish": {}}, {}) == {}
    assert published("frompar-pub", {"outputmap": {}}, {}) == {}


def test_the_original_s_name_for_manual_publishing_is_known() -> None:
    assert handlers["manual-publishing"]["default"] is handlers["manual-instructions-pub"]["default"]


def test_a_misspelt_publisher_is_told_with_what_is_near() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'frompar-pub'"):
        publisher.find("frompar_pub")


def test_manual_publishing_reads_what_is_typed_or_piped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"a": 1}\ny\n'))
    assert published("manual-instructions-pub", {"instructions": "Read the meter."}, {}) == {"a": 1}
    assert "Read the meter." in capsys.readouterr().err


def test_plug_ins_can_add_publishers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "table", dict(publisher.table))

    @publisher("count-pub")
    def count(publisher: Any, parameters: Any, state: Any) -> Any:
        return {"count": len(parameters)}

    assert published("count-pub", {}, {"a": 1, "b": 2}) == {"count": 2}


def test_of_every_publisher_of_ours_it_is_said_what_it_means():
    ours = {name for name, found in handlers.items() if found["default"].__module__.startswith("packtivity.")}
    assert set(PUBLISHERS) == ours - {"manual-publishing"}  # upstream's other name for manual-instructions-pub
