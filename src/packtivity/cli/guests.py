"""Finds out whether an error comes from code that is not packtivity's: a plug-in, a backend, a log handler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packtivity.registry import foreign_code

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, TracebackType


def blame(error: BaseException) -> str:
    """Say what somebody else's code was asked to be and which function of it failed; empty when none did."""
    for module, code in reversed(list(_calls(error.__traceback__))):
        for guest, purpose in foreign_code.items():
            if purpose and (module == guest or module.startswith(f"{guest}.")):
                return f"{purpose}: {module}:{code.co_qualname} failed"
    return ""


def _calls(traceback: TracebackType | None) -> Iterator[tuple[str, CodeType]]:
    """Give module and code of every call that an error came through, the outermost first."""
    while traceback is not None:
        frame = traceback.tb_frame
        yield str(frame.f_globals.get("__name__", "")), frame.f_code
        traceback = traceback.tb_next
