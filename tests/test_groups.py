"""Which command runs which test, and what the table in ``tests/README.md`` says of the groups."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import groups
import needs
import pytest
from _pytest.mark import MarkMatcher
from _pytest.mark.expression import Expression
from together import GROUP, Together, write_names

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
README = (ROOT / "tests" / "README.md").read_text("utf-8")
SOAK = "soak"


def selection(variable: str) -> Expression:
    (text,) = re.findall(rf"^{variable} := (.*)$", MAKEFILE, re.MULTILINE)
    assert f'-m "$({variable})"' in MAKEFILE
    return Expression.compile(text)


def test_every_test_is_run_by_exactly_one_command(request: pytest.FixtureRequest) -> None:
    commands = [selection("WITHOUT_ENGINES"), selection("WITH_ENGINES")]
    items = request.config.stash[needs.COLLECTED]
    assert items
    for item in items:
        matcher = MarkMatcher.from_markers(item.iter_markers())
        chosen = [command.evaluate(matcher) for command in commands]
        assert sum(chosen) == (0 if matcher(SOAK) else 1), item.nodeid


def running(monkeypatch: pytest.MonkeyPatch, *marks: str) -> None:
    item = SimpleNamespace(nodeid="t.py::test", get_closest_marker=lambda name: name in marks or None)
    monkeypatch.setattr(needs, "running", [item])


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("ci", ["true", ""])
def test_a_test_without_the_mark_may_not_use_an_engine_even_if_it_is_there(
    there: bool, ci: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    running(monkeypatch)
    with pytest.raises(pytest.fail.Exception, match="needs an engine"):
        needs.need_engine(there, "an engine")


def test_a_missing_engine_fails_in_continuous_integration_and_skips_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    running(monkeypatch, needs.MARK)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="an engine is not here; run 'make test-engines'"):
        needs.need_engine(there=False, what="an engine")
    needs.need_engine(there=True, what="an engine")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="an engine is not here; run 'make test-engines'"):
        needs.need_engine(there=False, what="an engine")


def test_fixtures_that_find_engines_give_the_mark(request: pytest.FixtureRequest) -> None:
    for item in request.config.stash[needs.COLLECTED]:
        if needs.ENGINE_FIXTURES & set(getattr(item, "fixturenames", ())):
            assert item.get_closest_marker(needs.MARK), item.nodeid


def test_every_group_of_tests_has_its_row() -> None:
    assert set(groups.rows(README)) >= groups.folders()


def test_the_budget_is_an_hour_in_all() -> None:
    budgets = [float(cells[-1]) for cells in groups.rows(README).values()]
    assert sum(budgets) == 3600


def test_no_group_takes_more_than_its_budget() -> None:
    for name, cells in groups.rows(README).items():
        measured = sum(float(cell) for cell in cells[1:3] if cell)
        assert measured <= float(cells[-1]), name


def test_tests_with_one_name_stay_in_one_process(tmp_path: Path) -> None:
    def item(nodeid: str, group: str | None) -> SimpleNamespace:
        mark = group and SimpleNamespace(args=(group,))
        return SimpleNamespace(nodeid=nodeid, get_closest_marker=lambda name: mark if name == GROUP else None)

    write_names(
        tmp_path / "gw0.json", [item("t.py::a[x@y]", "docker"), item("t.py::b", "docker"), item("t.py::c", None)]
    )
    scheduler = Together.__new__(Together)
    scheduler._folder, scheduler._names = tmp_path, None
    assert [scheduler._split_scope(f"t.py::{name}") for name in ("a[x@y]", "b", "c")] == ["docker", "docker", "t.py::c"]


def test_usage_is_added_up_by_folder() -> None:
    def report(nodeid: str, when: str, outcome: str = "passed", **more: object) -> SimpleNamespace:
        usual = {"duration": 1.5, "user_properties": [], "passed": outcome == "passed"}
        return SimpleNamespace(nodeid=nodeid, when=when, outcome=outcome, **{**usual, **more})

    done = [
        report("tests/cli/test_a.py::test_x[a/b]", "call"),
        report("tests/cli/test_a.py::test_x[a/b]", "teardown", user_properties=[(groups.CPU, "0.25")]),
        report("tests/cli/test_b.py::test_y", "setup", "skipped"),
        report("tests/test_c.py::test_z", "call", "failed"),
    ]
    found = groups.add_up(done)
    assert set(found) == {"cli", groups.TOP}
    assert (found["cli"].seconds, found["cli"].cpu) == (4.5, 0.25)
    assert found["cli"].outcomes == {"passed": 1, "skipped": 1}
    assert list(groups.lines(found))[1].split() == ["cli", "2", "1", "4.5", "0.2"]
