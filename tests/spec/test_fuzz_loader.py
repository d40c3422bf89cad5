"""Whatever bytes come, only errors of ours come out, and in time.

A few seconds by default; ``PACKTIVITY_SOAK_SECONDS=300`` makes it run that long and print how much it tried.
"""

from __future__ import annotations

import json
import os
import random
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packtivity.errors import PacktivityError
from packtivity.spec.document import load_document, load_yaml, parse_document

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = float(os.environ.get("PACKTIVITY_SOAK_SECONDS", "0"))
SEEDS = [
    b"process:\n  process_type: interpolated-script-cmd\n  script: |\n    echo {a}\n      b\n  interpreter: sh\n",
    b"environment: &e {environment_type: docker-encapsulated, image: 'x', resources: [CVMFS, {kerberos: true}]}\nb: *e\n",
    b"a: &x {b: 1}\nc: {<<: *x, d: [010, 1:30, 0x1f, 1_000.5e+3, .inf, 2001-01-01, ~, yes]}\n1: a\n1.5: b\n",
    b'{"a": [1, 2.5e+3, 1e5, "\\ud83d\\ude00", true, null], "b": {"$ref": "#/a"}}',
    b"a: {$ref: '#/b/0'}\nb: [{c: {$ref: 'other.yml#/x'}}, {$ref: '#/a'}]\n",
    b"- >-\n  folded\n  text\n\n  more\n- |2+\n    x\n\n- 'it''s'\n- \"a\\tb\\u00e9\\\n  c\"\n- !!str 5\n- ? k\n  : v\n- !!omap [a: 1]\n",
    b"%YAML 1.1\n%TAG ! tag:x,2000:\n---\n!a b\n...\n---\nc\n",
    "\ufeffa: größe 😀\n".encode(),
    "a: [1, {b: c}]\n".encode("utf-16"),
    b"a: &a [*a]\n",
    b"[" * 300 + b"]" * 300,
    b"- " * 300,
]
PIECES = [
    *(
        b":",
        b"-",
        b"? ",
        b"#",
        b"&a ",
        b"*a",
        b"!",
        b"!!",
        b"!!binary ",
        b"!!set ",
        b"!!python/name:os ",
        b"|",
        b">",
        b"'",
        b'"',
    ),
    *(
        b"%",
        b"@",
        b"`",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b"\n",
        b"  ",
        b"\t",
        b"\r",
        b"<<: ",
        b"=",
        b"~",
        b".nan",
        b"0b_",
        b"1:1",
    ),
    *(
        b"\x00",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xe2\x80\xa8",
        b"\xc2\x85",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\\ud83d",
    ),
    *(
        b"$ref: ",
        b'"$ref":',
        b"#/a",
        b"#/",
        b"other.yml",
        b"~1",
        b"%20",
        b"---\n",
        b"...\n",
        b"9" * 5000,
        b"[" * 150,
        b"- " * 150,
    ),
]


def survives(content: bytes) -> None:
    """Read, and ask for places, as validation does."""
    _only_ours(lambda: load_yaml(content))
    text = content.decode("utf-8", "surrogateescape")
    _only_ours(lambda: load_yaml(text))

    def ask() -> None:
        document = parse_document(content, "fuzz.yml")
        for path, value in _leaves(document.data):
            position = document.position(path)
            assert position is not None
            assert document.position(path, key=True) is not None
            document.excerpt(position)
            if isinstance(value, str):
                for offset in (0, len(value) // 2, len(value)):
                    assert document.offset_position(path, offset) is not None

    _only_ours(ask)


def _only_ours(action: Callable[[], object]) -> None:
    try:
        action()
    except PacktivityError as error:
        for diagnostic in getattr(error, "diagnostics", ()):
            assert diagnostic.code
            assert diagnostic.message
            json.dumps(diagnostic.message + diagnostic.excerpt).encode()


def _leaves(data, path=(), limit=60):
    """A bounded number of paths: asking for all of them is quadratic."""
    waiting = [(path, data)]
    for _ in range(limit):
        if not waiting:
            return
        at, value = waiting.pop()
        yield at, value
        if isinstance(value, dict):
            waiting.extend(((*at, key), item) for key, item in list(value.items())[:5])
        elif isinstance(value, list):
            waiting.extend(((*at, index), item) for index, item in enumerate(value[:5]))


def mutated(draw: random.Random) -> bytes:
    content = draw.choice(SEEDS)
    for _ in range(draw.randint(1, 8)):
        at = draw.randrange(len(content) + 1)
        kind = draw.randrange(5)
        if kind == 0:
            content = content[:at] + draw.choice(PIECES) + content[at:]
        elif kind == 1:
            content = content[:at] + content[at + draw.randint(1, 10) :]
        elif kind == 2:
            content = content[:at] + draw.randbytes(draw.randint(1, 3)) + content[at:]
        elif kind == 3:
            other = draw.choice(SEEDS)
            cut = draw.randrange(len(other) + 1)
            content = content[:at] + other[cut : cut + draw.randint(1, 60)] + content[at:]
        else:
            piece = content[at : at + draw.randint(1, 20)]
            content = content[:at] + piece * draw.randint(2, 5) + content[at:]
    return content


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_random_bytes_give_only_errors_of_ours(content):
    survives(content)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*PIECES, b"a", b" ", b"b: ", b"\n- "]), max_size=40).map(b"".join))
def test_random_syntax_gives_only_errors_of_ours(content):
    survives(content)


def test_whole_documents_of_changed_bytes_give_only_errors_of_ours(tmp_path, capsys):
    draw = random.Random(int(time.time()) if SECONDS else 20)
    (tmp_path / "other.yml").write_text("x: {y: {$ref: 'main.yml#/a'}}\n")
    main = tmp_path / "main.yml"
    tried, slowest, end = 0, 0.0, time.monotonic() + SECONDS
    while tried < 400 or time.monotonic() < end:
        content = mutated(draw)
        started = time.monotonic()
        try:
            survives(content)
            main.write_bytes(content)
            _only_ours(lambda: load_document("main.yml" + draw.choice(["", "#/a", "#/b/0"]), str(tmp_path)))
        except BaseException:
            print(f"input number {tried}: {content!r}")
            raise
        slowest = max(slowest, time.monotonic() - started)
        tried += 1
    with capsys.disabled():
        if SECONDS:
            print(f"\nloader: {tried:,} documents of changed bytes in {SECONDS:g} s, the slowest took {slowest:.2f} s")


@settings(max_examples=100, deadline=None)
@given(spec=st.text(max_size=60), toplevel=st.none() | st.text(max_size=30))
def test_any_name_of_a_spec_gives_only_errors_of_ours(spec, toplevel):
    _only_ours(lambda: load_document(spec, toplevel, offline=True))


@pytest.mark.parametrize("content", SEEDS)
def test_each_seed_is_worth_changing(content):
    survives(content)
