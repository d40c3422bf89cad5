"""What it costs to say what is wrong with a spec grows with the spec and no faster, whatever stands in it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from specs import command_spec, constant

from packtivity import interpolate
from packtivity import spec as specs
from packtivity.spec import lint
from packtivity.spec.document import parse_document

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = {
    "one name": "{{a}}".format,
    "many names": "{{a{0}}} ".format,
    "a name without its end": "{{a".format,
    "an index without its end": "{{a[".format,
    "a format without its end": "{{a:".format,
    "awk": "{{print ${0}}} ".format,
    "shell": "${{A{0}}} ".format,
    "braces turned round": "}}{{ ".format,
    "a conversion that is none": "{{a!x}} ".format,
    "placeholders in placeholders": "{{a:{{b:{{c}}}}}} ".format,
    "escapes": "{{{{a{0}}}}} ".format,
    "lines": "{{print {0}}}\n".format,
}
"""Pieces of commands; with a number, each is different."""


def calls(path: Path, cmd: str, parameters: dict[str, int]) -> int:
    """Return how many functions are called to inspect a spec with parameters."""
    path.write_text(json.dumps(command_spec(cmd, constant({}))))
    located = parse_document(json.dumps(parameters).encode(), "parameters.json")
    count = 0

    def profile(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(profile)
    try:
        specs.inspect(str(path), parameters=located)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("piece", TEXTS.values(), ids=TEXTS)
def test_four_times_the_text_is_about_four_times_the_work(tmp_path: Path, monkeypatch: Any, piece: Any) -> None:
    monkeypatch.setattr(lint, "_COMPARED", 5000)  # a constant share, however many names there are
    monkeypatch.setattr(interpolate, "_MOST", 30)
    work = [
        calls(tmp_path / "spec.json", "".join(map(piece, range(size))), {f"b{number}": 1 for number in range(size)})
        for size in (300, 1200)
    ]
    assert work[1] / work[0] < 5.5, work


@pytest.mark.parametrize("piece", TEXTS.values(), ids=TEXTS)
def test_a_text_is_read_a_few_times(monkeypatch: Any, piece: Any) -> None:
    read = []

    def counted(text: str) -> Any:
        read.append(0)
        for part in parse(text):
            read[-1] += 1
            yield part

    parse = interpolate.formatter_parser
    monkeypatch.setattr(interpolate, "formatter_parser", counted)
    text = "".join(map(piece, range(2000)))
    interpolate.readable_placeholders(text)
    assert sum(read) <= 4 * 2000
    assert len(read) <= 2 * (2000 + interpolate._MOST)


def test_nearest_names_are_looked_for_while_there_are_not_very_many(tmp_path: Path, monkeypatch: Any) -> None:
    asked = []
    monkeypatch.setattr(lint, "nearest", lambda word, known: asked.append((word, known)))
    cmd = "".join(map("{{a{0}}} ".format, range(4000)))
    calls(tmp_path / "spec.json", cmd, {f"b{number}": 1 for number in range(4000)})
    assert len(asked) == lint._COMPARED // 4000


def test_of_many_names_the_first_are_listed(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(command_spec("{zzzzzzzz}", constant({}))))
    given = parse_document(json.dumps({f"b{number:03}": 1 for number in range(200)}).encode(), "parameters.json")
    (found,) = [
        one for one in specs.inspect(str(tmp_path / "spec.json"), parameters=given).diagnostics if "zzz" in one.message
    ]
    assert found.expected.startswith("b000, b001, ")
    assert found.expected.endswith("b049 … (200 names)")
