"""Whatever a spec file and a parameter file hold, the line from loading to planning raises errors of ours only.

Specs that are valid (and parameters that fit) are changed byte by byte, so that many of them stay valid and get far
down the line; nothing is run. A second or two by default; ``PACKTIVITY_SOAK_SECONDS=300`` makes it run that long and
print how much it tried and how far the documents got.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from packtivity import spec as specs
from packtivity import task
from packtivity.cli.parameters import getinit_data
from packtivity.errors import EnvironmentUnavailable, PacktivityError
from packtivity.spec.document import parse_document
from packtivity.spec.reporters import render
from packtivity.statecontexts import LocalFSState

SECONDS = float(os.environ.get("PACKTIVITY_SOAK_SECONDS", "0")) or 1.5
SEEDS = sorted((Path(__file__).parent / "specs" / "valid").glob("*.yml"))
PARAMETERS = (
    b"name: World\nfiles: [a, b]\nx: {y: 1.0, z: [null, false]}\noutputfile: '{workdir}/out'\nn: 12345678901234567890\n",
    b'{"a": "{workdir}", "b": "{readdir0}", "c": "{0} {}", "workdir": 5}\n',
    b"[1, two, {three: 3}]\n",
    b"--- scalar\n",
)
PIECES = (
    b"{",
    b"}",
    b"{{",
    b"}}",
    b"{a}",
    b"{a.b}",
    b"{a[0]}",
    b"{0}",
    b"{a!r:>99}",
    b"{a:{b}}",
    b"{workdir.__class__}",
)
WORDS = (
    b"null",
    b"[]",
    b"{}",
    b"true",
    b".nan",
    b"2001-01-01",
    b"'",
    b'"',
    b": ",
    b"- ",
    b"\n",
    b"\n  ",
    b"*",
    b"**",
    b"..",
)


def changed(draw: random.Random, content: bytes) -> bytes:
    for _ in range(draw.randint(0, 4)):
        at = draw.randrange(len(content) + 1)
        size = draw.randint(1, 12)
        piece = draw.choice((*PIECES, *WORDS, draw.randbytes(2), content[at : at + size]))
        content = content[:at] + piece + content[at + draw.choice((0, 0, size)) :]
    return content


def line(spec_file: Path, parameter_file: Path, state: LocalFSState) -> str:
    """Go down the line as far as it goes; return the name of the last step, or of the error that ended it."""
    try:
        report = specs.inspect(
            str(spec_file), parameters=parse_document(parameter_file.read_bytes(), str(parameter_file))
        )
        for form in ("text", "json", "sarif", "github"):
            render(report.diagnostics, form)
        loaded = specs.load(str(spec_file))
        parameters = getinit_data([str(parameter_file)], [])
        packs, execution = task.configure({"exec": {"dry_run": True}})
        task.prepublish(loaded, parameters, state, packs)
        task.Run(loaded, parameters, state, {"name": "fuzz"}, packs, execution).plan()
    except EnvironmentUnavailable:
        return "planned, but the environment is not here"
    except PacktivityError as error:
        return type(error).__name__ if str(error) and 0 < error.exit_code < 64 else pytest.fail(repr(error))
    return "planned"


@pytest.mark.filterwarnings("ignore:.*:ResourceWarning")
def test_changed_specs_and_parameters_end_in_errors_of_ours(tmp_path: Path, capsys: Any) -> None:
    seed = random.SystemRandom().randrange(2**32)
    draw = random.Random(seed)
    state = LocalFSState([str(tmp_path / "work")], [str(tmp_path)])
    state.ensure()
    spec_file, parameter_file = tmp_path / "spec.yml", tmp_path / "parameters.yml"
    ends: Counter[str] = Counter()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        spec_file.write_bytes(changed(draw, draw.choice(SEEDS).read_bytes()))
        parameter_file.write_bytes(changed(draw, draw.choice(PARAMETERS)))
        try:
            ends[line(spec_file, parameter_file, state)] += 1
        except BaseException as error:
            error.add_note(f"seed {seed}\n{spec_file.read_bytes()!r}\n{parameter_file.read_bytes()!r}")
            raise
    with capsys.disabled():
        print(f"\n{ends.total()} specs with parameters in {SECONDS:.0f} s: {dict(ends.most_common())}")
    assert ends.total() > 50
    assert len(ends) > 2
