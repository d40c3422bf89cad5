"""Placeholders: str.format's meaning, without its ways into Python."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from packtivity import interpolate as interpolating
from packtivity.errors import MissingParameter, ParameterError
from packtivity.interpolate import (
    MAX_WIDTH,
    MissingAttribute,
    MissingName,
    MissingPosition,
    Placeholder,
    TemplateError,
    interpolate,
    placeholders,
)

NAMES = {
    "x": "text",
    "n": 7,
    "f": 2.5,
    "none": None,
    "yes": True,
    "list": ["a", 1, {"k": "v"}],
    "map": {"key": "value", "0": "zero", "a b": 1},
    "a-b": "dash",
    "w": 5,
    "": "empty",
}
ARGS = ("first", 2, ["third"])

PIECES = st.sampled_from(
    [
        "{", "}", "{{", "}}", "{x}", "{n:05d}", "{f:.2f}", "{}", "{0}", "{1}", "{9}", "{list[0]}", "{list[9]}",
        "{list[2][k]}", "{map[key]}", "{map[0]}", "{map[nokey]}", "{map[a b]}", "{a-b}", "{x!r}", "{x!s:>8}", "{x!a}",
        "{x!q}", "{x:{w}}", "{x:>{w}}", "{x:{map[key]}}", "{x:{w:{n}}}", "{:{}}", "{0:{1}}", "{none}", "{none:5}",
        "{list:5}", "{yes:d}", "{x:d}", "{n.real}", "{n.nothing}", "{.real}", "{[0]}", "{x[}", "{x.}", "{x[0]q}",
        "{x[]}", "{x!}", "{x:}", "{x!r:}", "{unknown}", "{ x }", "{x y}", "plain", " $1 ", "é", "\n", "[", "]", "!",
        ":", ".", "{x:é>9}", "{99999999999999999999}", "{-1}", "{x[-1]}", "{list[-1]}", "{list[ 1]}", "{n:,}", "{n:_x}",
    ]
)  # fmt: skip
TEMPLATES = st.one_of(st.lists(PIECES, max_size=5).map("".join), st.text(alphabet="{}[].!:x0n w\n", max_size=14))


def _format(template: str) -> str | type[Exception]:
    try:
        return template.format(*ARGS, **NAMES)
    except Exception as error:
        return type(error)


@given(TEMPLATES)
@example("{x!r:>{w}}{}{n:{w}}")
@example("}{")
@example("{0}{}")
@example("{ .}")
@example("{x}{unknown.}")
@example("{}{0}")
@example("{x:{}}{0}")
@example("{:{:{}}}")
@example("{{}}{{{x}}}")
def test_means_what_str_format_means(template: str) -> None:
    expected = _format(template)
    try:
        found: str | Exception = interpolate(template, ARGS, NAMES)
    except ParameterError as error:
        found = error
    if isinstance(expected, str):
        assert found == expected
    elif expected is TypeError:
        assert isinstance(found, TemplateError)
    else:
        assert isinstance(found, expected)


@given(TEMPLATES)
def test_placeholders_are_where_they_say(template: str) -> None:
    try:
        _parse(template)
    except ValueError:
        with pytest.raises(TemplateError) as caught:
            placeholders(template)
        assert template[caught.value.offset] in "{}"
        return
    found = placeholders(template)
    for place in found:
        text = template[place.start : place.end]
        assert text.startswith("{" + place.field)
        assert text.endswith("}")
        assert place.field.startswith(place.name)
    top = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    outer = [p.field for p in found if not any(o.start < p.start and p.end < o.end for o in found)]
    assert outer == top


def _parse(template: str) -> None:
    for _, field, spec, _ in string.Formatter().parse(template):
        if field is not None:
            list(string._string.formatter_field_name_split(field)[1])  # type: ignore[attr-defined]
            _parse(spec or "") if "{" in (spec or "") else None


def test_placeholders_inside_format_specs_are_listed_with_their_own_offsets() -> None:
    assert placeholders("{{}} {a} {b[k]!r:>{w}} {}") == [
        Placeholder("a", "a", 5, 8),
        Placeholder("b", "b[k]", 9, 22),
        Placeholder("w", "w", 18, 21),
        Placeholder("", "", 23, 25),
    ]
    assert placeholders("no braces") == []


def test_a_template_without_braces_is_returned_as_it_is() -> None:
    template = "$HOME/[a].!:"
    assert interpolate(template) is template


def test_a_name_that_nothing_gives_is_a_missing_parameter_with_the_nearest_name() -> None:
    with pytest.raises(MissingName, match=r"(?s)\{wrkdir\}.*Did you mean \{workdir\}\?.*\{\{") as caught:
        interpolate("ls {wrkdir}/x", (), {"workdir": "/w"})
    error = caught.value
    assert isinstance(error, MissingParameter)
    assert isinstance(error, KeyError)
    assert (error.name, error.field, error.offset, error.template) == ("wrkdir", "wrkdir", 3, "ls {wrkdir}/x")


def test_a_name_that_is_like_no_other_gets_no_guess() -> None:
    with pytest.raises(MissingName) as caught:
        interpolate("{zzzzzz}", (), {"workdir": "/w"})
    assert "Did you mean" not in str(caught.value)


def test_a_missing_name_inside_a_format_spec_is_named() -> None:
    with pytest.raises(MissingName) as caught:
        interpolate("{x:{width}}", (), {"x": 1})
    assert caught.value.name == "width"


def test_a_missing_key_is_told_apart_from_a_missing_name() -> None:
    with pytest.raises(MissingName, match="no key 'q'") as caught:
        interpolate("{m[q]}", (), {"m": {}})
    assert caught.value.name == "m[q]"


def test_missing_positions_and_attributes_keep_their_kinds() -> None:
    with pytest.raises(MissingPosition) as position:
        interpolate("a {} b")
    assert isinstance(position.value, IndexError)
    assert position.value.offset == 2
    with pytest.raises(MissingAttribute) as attribute:
        interpolate("{x.y}", (), {"x": 1})
    assert isinstance(attribute.value, AttributeError)


@pytest.mark.parametrize(
    ("template", "offset"),
    [
        ("awk } x", 4),
        ("{", 0),
        ("{x} {{ok}} } {x}", 11),
        ("{x} tail {", 9),
        ("{x!", 0),
        ("}} }", 3),
        ("{x:{w}", 0),
        ("é{x", 1),
    ],
)
def test_a_lone_brace_is_found_where_it_stands(template: str, offset: int) -> None:
    with pytest.raises(TemplateError, match=r"Write \{\{ and \}\}") as caught:
        interpolate(template, (), {"x": "a", "w": 3})
    assert caught.value.offset == offset
    with pytest.raises(TemplateError) as listed:
        placeholders(template)
    assert listed.value.offset == offset


def test_a_lone_brace_inside_a_format_spec_is_counted_from_the_start_of_the_template() -> None:
    with pytest.raises(TemplateError) as caught:
        placeholders("ab {x:{y!}}")
    assert caught.value.offset == 6
    assert caught.value.template == "ab {x:{y!}}"


def test_trouble_before_a_lone_brace_is_told_first() -> None:
    with pytest.raises(MissingName):
        interpolate("{unknown} }")


def test_a_value_that_refuses_to_be_formatted_is_named() -> None:
    class Sulky:
        def __format__(self, spec: str) -> str:
            raise ValueError("no")

    with pytest.raises(TemplateError, match=r"\{b\}: no"):
        interpolate("{a}{b}{a}", (), {"a": 1, "b": Sulky()})


@pytest.mark.parametrize(
    ("value", "said", "hint"),
    [
        (None, r"\{mu\}: the parameter has no value \(null\)", "Give it a value."),
        ("abc", r"\{mu\}: the value 'abc' does not take the format '\.2f'", "Give another value, or another format."),
        ([1], r"the value \[1\] does not take", "Give another value, or another format."),
    ],
)
def test_a_value_that_a_format_does_not_take_is_shown(value: object, said: str, hint: str) -> None:
    with pytest.raises(TemplateError, match=said) as caught:
        interpolate("{x:d} {mu:.2f} {x}", (), {"x": 1, "mu": value})
    assert caught.value.hint == hint


class Leaf:
    """What a typed leaf could be."""

    def __init__(self) -> None:
        self.path = "/p"
        self.generator = (character for character in "a")
        self.module = string

    def method(self) -> str:
        return "called"


@pytest.mark.parametrize(
    "template",
    [
        "{workdir.__class__}",
        "{workdir.__class__.__mro__}",
        "{leaf.__init__.__globals__}",
        "{leaf._private}",
        "{leaf.method}",
        "{leaf.method.__func__}",
        "{workdir.upper}",
        "{leaf.generator}",
        "{leaf.generator.gi_frame}",
        "{leaf.module}",
        "{leaf.module.os}",
        "{workdir:{leaf.__class__}}",
        "{0.__class__}",
    ],
)
def test_python_internals_are_out_of_reach(template: str) -> None:
    with pytest.raises(TemplateError) as caught:
        interpolate(template, ("a",), {"workdir": "/w", "leaf": Leaf()})
    assert not isinstance(caught.value, LookupError)


def test_attributes_that_are_data_can_be_used() -> None:
    assert interpolate("{leaf.path} {n.real}", (), {"leaf": Leaf(), "n": 3}) == "/p 3"


def test_dunder_keys_are_only_keys() -> None:
    assert interpolate("{m[__class__]}", (), {"m": {"__class__": "c"}}) == "c"
    with pytest.raises(MissingName):
        interpolate("{m[__class__]}", (), {"m": {}})


@pytest.mark.parametrize(
    "template",
    [
        "{x:999999999}",
        "{n:0999999999d}",
        "{f:.999999999f}",
        "{x:{huge}}",
        "{x:٩٩٩٩٩٩٩٩}",
        "{x:" + "9" * 10_000 + "}",
        f"{{x:{MAX_WIDTH + 1}}}",
    ],
)
def test_absurd_widths_are_refused_before_they_cost_memory(template: str) -> None:
    with pytest.raises(TemplateError, match=f"above {MAX_WIDTH}"):
        interpolate(template, (), {"x": "a", "n": 1, "f": 1.5, "huge": 10**9})


def test_the_largest_width_is_allowed() -> None:
    assert len(interpolate(f"{{x:{MAX_WIDTH}}}", (), {"x": "a"})) == MAX_WIDTH
    assert interpolate("{x:000000000000005}", (), {"x": 1}) == "00001"


def test_a_number_too_long_to_print_is_an_error_of_ours() -> None:
    with pytest.raises(TemplateError):
        interpolate("{n}", (), {"n": 10**5000})


# --- work and memory -------------------------------------------------------------------------------------------


class Counting(str):
    """A text that counts how often it is written."""

    __slots__ = ()

    written = 0

    def __format__(self, spec: str) -> str:
        Counting.written += 1
        return super().__format__(spec)


def test_a_text_that_would_take_up_the_memory_is_refused_when_the_limit_is_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PACKTIVITY_TEXT_LIMIT", "1000000")
    monkeypatch.setattr(Counting, "written", 0)
    with pytest.raises(TemplateError, match="longer than 1000000 characters") as caught:
        interpolate("{a:>9999}" * 150_000, (), {"a": Counting("x")})
    assert caught.value.offset == 100 * len("{a:>9999}")
    assert Counting.written == 101
    assert "PACKTIVITY_TEXT_LIMIT" in caught.value.hint


def test_a_text_of_usual_size_asks_for_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACKTIVITY_TEXT_LIMIT", "1")
    assert len(interpolate("{a}" * 1000, (), {"a": "x" * 100})) == 100_000


@pytest.mark.parametrize("piece", ["{a}", "{a:{b}}", "{{", "x", "{a!r:>5} y {a[k]}"])
def test_a_long_text_is_read_once(monkeypatch: pytest.MonkeyPatch, piece: str) -> None:
    read = []

    def counted(text: str) -> object:
        read.append(len(text))
        return parse(text)

    parse = interpolating.formatter_parser
    monkeypatch.setattr(interpolating, "formatter_parser", counted)
    text = piece * 3000
    placeholders(text)
    assert sum(read) <= 2 * len(text)
    read.clear()
    interpolate(text, (), {"a": {"k": 1}, "b": ""})
    assert sum(read) <= 2 * len(text)


def test_placeholders_in_one_another_are_read_to_a_depth_and_no_further() -> None:
    with pytest.raises(TemplateError, match="nested too deeply") as caught:
        placeholders("{a:" * 5000 + "}" * 5000)
    assert caught.value.offset == 6 * len("{a:")
