"""What commands say about a result: today's lines for programs, a table for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from packtivity.cli.printing import say, show
from packtivity.printable import printable

if TYPE_CHECKING:
    from packtivity.types import JSON


class Output:
    """Standard output of ``packtivity-run``.

    When it is no terminal, the lines are word for word those of upstream 0.17.1. None stands for one that is closed.
    """

    def __init__(self, stream: TextIO | None, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._person = stream is not None and stream.isatty()
        self._stream = stream
        if stream is not None and stream.errors == "strict" and hasattr(stream, "reconfigure"):
            # A result must not be lost because the terminal cannot show one of its characters.
            stream.reconfigure(errors="backslashreplace")

    def prepublished(self, result: Any) -> None:
        """Tell the result that is known before the run; a person waits for the final one."""
        if not (self._quiet or self._person):
            say(f"{result} (prepublished)")

    def result(self, result: Any, state: Any, *, suffix: bool) -> None:
        """Tell the result.

        :param suffix: whether it was prepublished, too.
        """
        if self._quiet:
            return
        if not self._person:
            say(f"{result} (post-run)" if suffix else str(result))
            return
        from packtivity.cli.terminal import table, wants_colour

        lines = table(plain(result), colour=wants_colour(self._stream))
        show("\n".join(["published:", *lines, *_logs(state)]))

    def proxy(self, document: JSON) -> None:
        """Tell the handle of a submitted task."""
        import json

        if not self._quiet:
            say(f"proxy-json {json.dumps(document)}")


def plain(result: Any) -> JSON:
    """Return a result as JSON; backends of others may give it so already."""
    return result.json() if hasattr(result, "json") else result


def _logs(state: Any) -> list[str]:
    return [f"logs: {printable(state.metadir)}"] if state.metadir else []
