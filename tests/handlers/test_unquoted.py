"""The hint at a value that a shell takes for more than a word."""

from __future__ import annotations

from typing import Any

import pytest

from packtivity.handlers.unquoted import unquoted_values

COMMAND = {"process_type": "string-interpolated-cmd"}
SCRIPT = {"process_type": "interpolated-script-cmd"}


@pytest.mark.parametrize("value", ["a&b", "a;b", "a (b)", "a|b", "x<y", "x>y", "it's", "`a`", ["one", "two&three"]])
def test_a_value_that_steers_the_shell_is_named_with_its_place(value: Any) -> None:
    told = unquoted_values({**COMMAND, "cmd": "echo {safe} {x} > o"}, {"x": value, "safe": "a b"}, None)
    assert "'x'" in told
    assert "(process.cmd)" in told
    assert told.endswith('write "{x}".')


def test_the_line_of_a_script_is_told() -> None:
    process = {**SCRIPT, "interpreter": "/bin/bash -e", "script": "# it's a comment\necho '{x}' \"{x}\"\nrun {x}\n"}
    assert "(process.script, line 3)" in unquoted_values(process, {"x": "a&b"}, None)


@pytest.mark.parametrize(
    ("process", "value"),
    [
        ({**COMMAND, "cmd": "echo '{x}'"}, "a&b"),
        ({**COMMAND, "cmd": 'echo "it is \\" {x}"'}, "a&b"),
        ({**COMMAND, "cmd": "echo {x}"}, "plain words"),
        ({**COMMAND, "cmd": "echo {x}"}, "--cut 'x > 3' --title \"a;b\""),  # part of a command on purpose
        ({**COMMAND, "cmd": "echo {x}"}, 3),
        ({**COMMAND, "cmd": "echo {x[key]}"}, {"key": "a&b"}),
        ({**COMMAND, "cmd": "echo {"}, "a&b"),
        ({**SCRIPT, "interpreter": "python3", "script": "print({x})"}, "f(1)"),
        ({**SCRIPT, "interpreter": "sh", "script": "cat <<END\n{x}\nEND"}, "a&b"),
        ({**SCRIPT, "interpreter": "", "script": "{x}"}, "a&b"),
        ({"process_type": "of a plug-in"}, "a&b"),
    ],
)
def test_what_is_no_slip_is_not_told(process: dict[str, Any], value: Any) -> None:
    assert unquoted_values(process, {"x": value}, None) == ""


def test_parameters_that_have_no_names_are_none_of_it() -> None:
    assert unquoted_values({**COMMAND, "cmd": "echo {}"}, ["a&b"], None) == ""
