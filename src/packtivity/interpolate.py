"""Fills ``{placeholders}``: ``str.format`` of the original, kept away from Python's internals.

Everything ``str.format`` accepts is accepted and gives the same text (upstream 0.17.1 calls it on specs and
parameters), except that attributes that start with ``_``, callables, and absurd widths are errors.
"""

from __future__ import annotations

import re
from _string import formatter_field_name_split, formatter_parser  # type: ignore[import-not-found]
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from packtivity import settings
from packtivity.errors import MissingParameter, ParameterError
from packtivity.registry import nearest

MAX_WIDTH = 10_000
"""Largest width or precision in a format spec: ``{x:999999999}`` is a mistake or an attack, never a layout."""

ESCAPE_HINT = "Write {{ and }} for braces that are meant as they are."

_CONVERSIONS: dict[str | None, Callable[[Any], Any]] = {None: lambda value: value, "s": str, "r": repr, "a": ascii}
_LEVELS = 2  # a placeholder inside a format spec may not hold another one (str.format)
_SHORT = 100_000  # characters for which no limit is looked up
_MOST = 300  # braces that are in no placeholder
_DEEPEST = 6  # how far in that is looked for placeholders all the same, to say something of them
_INTERNALS = frozenset(
    {"module", "frame", "code", "traceback", "generator", "coroutine", "async_generator", "mappingproxy"}
)


class _InTemplate(ParameterError):
    """An error with its place.

    :ivar template: the whole text.
    :ivar offset: character at which the trouble stands.
    :ivar field: the placeholder without its braces, empty for a lone brace.
    """

    def __init__(self, message: str, *, template: str, offset: int, field: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.template = template
        self.offset = offset
        self.field = field


class TemplateError(_InTemplate, ValueError):
    """A template cannot be filled: a lone brace, a bad format spec, an attribute that is not allowed."""


class _TooDeep(TemplateError):
    """Placeholders are nested so deeply that nobody means it."""


class MissingPosition(TemplateError, IndexError):
    """``{}`` or ``{0}`` without a positional parameter, or ``{x[7]}`` of a shorter list."""


class MissingAttribute(TemplateError, AttributeError):
    """``{x.attr}`` of a value that has no such attribute."""


class MissingName(_InTemplate, MissingParameter):
    """A placeholder that nothing gives.

    :ivar name: what is missing: ``x`` of ``{x}``, ``x[key]`` when ``x`` is there and its key is not.
    """

    def __init__(self, message: str, *, name: str, **where: Any) -> None:
        super().__init__(message, **where)
        self.name = name


class _UnknownName(KeyError):
    """No value has this name; other ``KeyError`` come from ``{x[key]}``."""


class _TooLong(ValueError):
    """The text would be longer than the setting allows."""


class _Refused(ValueError):
    """A value does not take its format spec; both are the arguments."""


class _Values:
    """What a template may use, and how far the numbering of ``{}`` has come."""

    __slots__ = ("args", "automatic", "manual", "names")

    def __init__(self, args: Sequence[Any], names: Mapping[str, Any]) -> None:
        self.args = args
        self.names = names
        self.automatic = 0
        self.manual = False

    def first(self, key: str | int) -> Any:
        """Return the value that a placeholder starts from."""
        if isinstance(key, str) and key:
            try:
                return self.names[key]
            except KeyError:
                raise _UnknownName(key) from None
        if key == "":
            if self.manual:
                raise ValueError("cannot switch from manual field specification to automatic field numbering")
            self.automatic += 1
            return self.args[self.automatic - 1]
        if self.automatic:
            raise ValueError("cannot switch from automatic field numbering to manual field specification")
        self.manual = True
        return self.args[key]


def interpolate(template: str, args: Sequence[Any] = (), names: Mapping[str, Any] | None = None) -> str:
    """Fill a template.

    :param args: values of ``{}`` and ``{0}``.
    :param names: values of ``{name}``.
    :raises MissingName: a name or key that nothing gives (also a ``KeyError``).
    :raises MissingPosition: a position that nothing gives (also an ``IndexError``).
    :raises TemplateError: anything else ``str.format`` refuses, or that reaches into Python (also a ``ValueError``).
    """
    if "{" not in template and "}" not in template:
        return template
    values, pieces = _Values(args, names or {}), []
    length = 0
    for literal, part in _parts(template):
        pieces.append(literal)
        if part is None:
            continue
        try:
            pieces.append(_formatted(part.field, part.spec, part.conversion, values, _LEVELS))
            length += len(pieces[-1])
            if length > _SHORT and length > settings.current().text_limit:
                raise _TooLong
        except (LookupError, AttributeError, ValueError, TypeError, ArithmeticError) as error:
            raise _explained(error, part, template, values) from None
    return "".join(pieces)


def _formatted(field: str, spec: str, conversion: str | None, values: _Values, levels: int) -> str:
    if levels == 0:
        raise ValueError("placeholders are nested too deeply")
    first, rest = formatter_field_name_split(field)
    value = values.first(first)
    for is_attribute, key in rest:
        value = _attribute(value, key) if is_attribute else value[key]
    value = _converted(value, conversion)
    if "{" in spec:
        spec = "".join(
            literal + ("" if inner is None else _formatted(inner, inner_spec or "", how, values, levels - 1))
            for literal, inner, inner_spec, how in formatter_parser(spec)
        )
    _check_widths(spec)
    try:
        return format(value, spec)
    except (ValueError, TypeError, ArithmeticError):
        if spec and isinstance(value, (str, int, float, list, dict, type(None))):
            raise _Refused(value, spec) from None
        raise


def _attribute(value: object, name: str) -> Any:
    if name.startswith("_"):
        raise ValueError(f"attribute {name!r} is private to Python")
    found = getattr(value, name)
    if callable(found) or type(found).__name__ in _INTERNALS:
        raise ValueError(f"attribute {name!r} is not data")
    return found


def _converted(value: object, conversion: str | None) -> Any:
    if conversion not in _CONVERSIONS:
        raise ValueError(f"unknown conversion !{conversion}; there are !s, !r and !a")
    return _CONVERSIONS[conversion](value)


def _check_widths(spec: str) -> None:
    """Refuse a number above :data:`MAX_WIDTH` anywhere in a format spec, in any script's digits."""
    for number in re.findall(r"\d+", spec):
        if len(number.lstrip("0")) > len(str(MAX_WIDTH)) or int(number) > MAX_WIDTH:
            raise ValueError(f"width or precision {number[:20]} is above {MAX_WIDTH}")


# --- explaining ------------------------------------------------------------------------------------------------


def _explained(error: Exception, part: _Part, template: str, values: _Values) -> ParameterError:
    """Turn an error of ``str.format`` into ours, which says where."""
    where: dict[str, Any] = {"template": template, "offset": part.start, "field": part.field}
    shown = f"placeholder {{{part.field}}}"
    if isinstance(error, _UnknownName):
        name = error.args[0]
        near = nearest(name, values.names)
        hint = f"Did you mean {{{near}}}? {ESCAPE_HINT}" if near else ESCAPE_HINT
        return MissingName(f"{shown}: nothing is called {name!r}", name=name, hint=hint, **where)
    if isinstance(error, KeyError):
        key = error.args[0] if error.args else ""
        return MissingName(f"{shown}: there is no key {key!r} in it", name=part.field, **where)
    if isinstance(error, IndexError):
        return MissingPosition(f"{shown}: no value has that position", hint=ESCAPE_HINT, **where)
    if isinstance(error, AttributeError):
        return MissingAttribute(f"{shown}: {error}", **where)
    if isinstance(error, _TooLong):
        limit = settings.current().text_limit
        what = f"the text would be longer than {limit} characters by here"
        return TemplateError(f"{shown}: {what}", hint="Pass a file, or set PACKTIVITY_TEXT_LIMIT.", **where)
    if isinstance(error, _Refused):
        what, hint = _refused(*error.args)
        return TemplateError(f"{shown}: {what}", hint=hint, **where)
    return TemplateError(f"{shown}: {error}", hint=ESCAPE_HINT, **where)


def _refused(value: object, spec: str) -> tuple[str, str]:
    """Say of a JSON value that a format spec is not for it, and what to do."""
    if value is None:
        return f"the parameter has no value (null), and so none for the format {spec!r}", "Give it a value."
    shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}…"
    return f"the value {shown} does not take the format {spec!r}", "Give another value, or another format."


class Placeholder(NamedTuple):
    """One placeholder of a template.

    :ivar name: the name it starts with: ``x`` of ``{x[key]:>5}``, a number for ``{0}``, empty for ``{}``.
    :ivar field: all of it before ``!`` and ``:``.
    :ivar start, end: characters of the template it takes up, braces included.
    """

    name: str
    field: str
    start: int
    end: int


def placeholders(template: str) -> list[Placeholder]:
    """List the placeholders of a template, those inside format specs included, in order of their start.

    :raises TemplateError: ``str.format`` could not read the template; ``offset`` says where.
    """
    try:
        return [one for _, part in _parts(template) if part for one in _within(part)]
    except TemplateError as error:
        error.template = template  # rather than the format spec it was found in
        raise


def readable_placeholders(text: str) -> tuple[list[Placeholder], list[int]]:
    """Return the placeholders of a text as if its other braces were other characters, and where those stand.

    A text is read about once, however many braces it has, and no further than to the three-hundredth brace of that kind.
    """
    found: list[Placeholder] = []
    others: list[int] = []
    start: int | None = 0
    while start is not None and len(others) < _MOST:
        start = _read_on(text, start, found, others)
    return found, others


def _read_on(text: str, start: int, found: list[Placeholder], others: list[int]) -> int | None:
    """Read from a place on to a brace that is not part of a placeholder; return where to go on, None at the end."""
    try:
        for _, part in _parts(text[start:], start):
            try:
                found += list(_within(part)) if part else ()
            except _TooDeep:  # with all that is in it
                others += [part.start, part.end - 1] if part else ()
                return part.end if part else None
            except TemplateError:
                others += [part.start] if part else ()
                return part.start + 1 if part else None
    except TemplateError as error:
        others.append(error.offset)
        return error.offset + 1
    return None


def _within(part: _Part, depth: int = 1) -> Iterator[Placeholder]:
    """Give a placeholder and those inside its format spec."""
    where: dict[str, Any] = {"template": part.spec, "offset": part.start, "field": part.field, "hint": ESCAPE_HINT}
    if depth > _DEEPEST:
        raise _TooDeep("placeholders are nested too deeply", **where)
    try:
        first, rest = formatter_field_name_split(part.field)
        for _ in rest:
            pass
    except ValueError as error:
        raise TemplateError(f"placeholder {{{part.field}}}: {error}", **where) from None
    yield Placeholder(str(first), part.field, part.start, part.end)
    if "{" in part.spec:
        for _, inner in _parts(part.spec, part.end - 1 - len(part.spec)):
            if inner:
                yield from _within(inner, depth + 1)


class _Part(NamedTuple):
    """A placeholder as ``str.format`` reads it, and where it stands."""

    field: str
    spec: str
    conversion: str | None
    start: int
    end: int


def _parts(template: str, base: int = 0) -> Iterator[tuple[str, _Part | None]]:
    """Give each literal text and what follows it; where that stands, which the parser does not tell, is counted along.

    :param base: where the template begins in a larger one.
    :raises TemplateError: a brace is not part of a placeholder.
    """
    position = 0
    parser = formatter_parser(template)
    while True:
        try:
            read = next(parser, None)
        except ValueError as error:
            raise _lone_brace(template, position, base, error) from None
        if read is None:
            return
        literal, field, spec, conversion = read
        position += len(literal)
        if field is None:
            position += literal[-1:] in ("{", "}")  # an escaped brace is two characters in the template
            yield literal, None
            continue
        start = position
        position += 1 + len(field) + (2 if conversion else 0)
        position += len(spec) + (2 if template[position] == ":" else 1)
        yield literal, _Part(field, spec, conversion, base + start, base + position)


def _lone_brace(template: str, position: int, base: int, error: ValueError) -> TemplateError:
    """Say where the brace stands that ``str.format`` stumbles over: the first one not yet read."""
    offset = min((at for at in (template.find("{", position), template.find("}", position)) if at >= 0), default=0)
    excerpt = template[offset : offset + 30].partition("\n")[0]
    return TemplateError(
        f"brace that is not part of a placeholder at {excerpt!r}: {error}",
        template=template,
        offset=base + offset,
        hint=ESCAPE_HINT,
    )
