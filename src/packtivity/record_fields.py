"""What stands in a record: pure functions from what is known of a run to a JSON document; see :mod:`packtivity.record`."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from math import isfinite
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING, Any

from packtivity import errors, settings, signals
from packtivity.signals import name_of
from packtivity.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packtivity.notes import RunNotes
    from packtivity.types import JSON

MASK = "***"
_SECRET_NAMES = (
    "token",
    "secret",
    "passw",
    "passphrase",
    "credential",
    "apikey",
    "api_key",
    "privatekey",
    "private_key",
)
_SHORTEST_SECRET = 6


def moment(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC, to the millisecond."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


def document(
    about: Mapping[str, Any],
    noted: RunNotes,
    *,
    span: tuple[float, float],
    attempts: int,
    parameters: JSON,
    error: BaseException | None,
    result: JSON = None,
    published: Sequence[JSON] = (),
) -> dict[str, Any]:
    """Return a record.

    :param about: ``version``, ``id``, ``key`` and ``name``.
    :param span: when the task began and ended, seconds since the epoch.
    :param error: None for a success.
    """
    (began, ended), execution = span, noted.execution
    argv = noted.argv or (execution.argv if execution else None)
    image = execution.image if execution else None
    seen = {
        "attempts": attempts,
        "error": None if error is None else failure(error),
        "job": noted.job,
        "command": list(argv) if argv else None,
        "workdir": execution.workdir if execution else None,
        "image": noted.image or ({"reference": image, "digest": None} if image else None),
        "parameters": parameters,
        "missing": list(noted.missing),
        "warnings": list(noted.warnings),
    }
    return {
        **about,
        "status": "succeeded" if error is None else status_of(error),
        "started": moment(began),
        "ended": moment(ended),
        "seconds": round(ended - began, 6),
        **_ending(noted),
        "ended_by": None if error is None else _ended_by(error, noted),
        **masked(seen, secrets(settings.environment(), parameters)),
        "result": result,
        "published": list(published),
        "versions": _versions(),
        **(_where() if settings.current().record_host else {}),
    }


def encoded(document: Mapping[str, Any]) -> bytes:
    """Return a record as strict JSON: where a number is infinite or none, a text stands for it, and ``not_numbers`` has its place."""
    write = partial(json.dumps, separators=(",", ":"), default=str, allow_nan=False)
    try:
        text = write(document)
    except ValueError:
        places: list[str] = []
        strict = _strict(document, "", places)
        warnings = [f"not-json: the number at {place} does not exist in JSON, and is a text here" for place in places]
        text = write({**strict, "warnings": strict["warnings"] + warnings, "not_numbers": places})
    return text.encode("utf-8", "backslashreplace")


def _strict(data: JSON, place: str, places: list[str]) -> JSON:
    """Return a copy with texts for numbers that JSON does not have, whose places (RFC 6901) go to the list."""
    if isinstance(data, float) and not isfinite(data):
        places.append(place)
        return json.dumps(data)
    if isinstance(data, dict):
        return {key: _strict(value, f"{place}/{_escaped(str(key))}", places) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_strict(value, f"{place}/{number}", places) for number, value in enumerate(data)]
    return data


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def decoded(record: dict[str, Any]) -> dict[str, Any]:
    """Put the numbers back for which texts stand in a record; what cannot be one stays, because anybody may have written it."""
    places = record.get("not_numbers")
    for place in places if isinstance(places, list) else ():
        with suppress(LookupError, TypeError, ValueError, AttributeError):
            inner: Any = record
            *above, last = (part.replace("~1", "/").replace("~0", "~") for part in place.split("/")[1:])
            for part in above:
                inner = inner[int(part) if isinstance(inner, list) else part]
            key: Any = int(last) if isinstance(inner, list) else last
            inner[key] = float(inner[key])
    return record


def _ending(noted: RunNotes) -> dict[str, Any]:
    """Return how the main process ended and what it took."""
    completed, measured = noted.completed, noted.usage
    if completed is None:
        return {"exit_code": None, "signal": None, "timed_out": False, "out_of_memory": None, "usage": None}
    code = completed.returncode
    usage = {
        "source": "rusage",
        "cpu_seconds": round(completed.cpu, 6),
        "peak_memory_bytes": completed.max_rss,
        "peak_memory_of": None if completed.max_rss is None else "largest process",
        "read_bytes": completed.read_bytes,
        "written_bytes": completed.written_bytes,
        "output_bytes": completed.output_bytes,
    }
    return {
        "exit_code": code if code >= 0 else None,
        "signal": name_of(-code) if code < 0 else None,
        "timed_out": completed.timed_out,
        "out_of_memory": noted.out_of_memory,
        "usage": None if measured is None else {**usage, **measured},
    }


def status_of(error: BaseException) -> str:
    """Return the status of a task that has ended with an error."""
    return "cancelled" if isinstance(error, (errors.TaskCancelled, KeyboardInterrupt)) else "failed"


def _ended_by(error: BaseException, noted: RunNotes) -> dict[str, str | None] | None:
    """Return what asked for the end of a task, and the signal by which; None when nothing did."""
    if isinstance(error, errors.TaskTimeout):
        is_ours = noted.completed is not None and noted.completed.timed_out
        return {"reason": "timeout" if is_ours else "limit", "signal": None}
    if status_of(error) != "cancelled":
        return None
    number = signals.received or (signal.SIGINT if isinstance(error, KeyboardInterrupt) else None)
    return {"reason": "signal" if number else "cancel", "signal": name_of(number) if number else None}


def failure(error: BaseException) -> dict[str, Any]:
    """Return an error as JSON: ``type``, ``message`` and, for a failed command, ``returncode``."""
    failed: dict[str, Any] = {"type": _kind(error), "message": str(error) or type(error).__name__}
    returncode = getattr(error, "returncode", None)
    return failed if returncode is None else {**failed, "returncode": returncode}


def _kind(error: BaseException) -> str:
    """Return the name of the most specific class in :mod:`packtivity.errors`, so that readers can raise the same."""
    names = (ancestor.__name__ for ancestor in type(error).__mro__ if issubclass(ancestor, errors.PacktivityError))
    known = [name for name in names if name in errors.__all__]
    return known[0] if len(known) > 1 else type(error).__name__


def _versions() -> dict[str, str]:
    """Return the versions that the task was run with."""
    system = os.uname()
    return {
        "packtivity": VERSION,
        "python": ".".join(map(str, sys.version_info[:3])),
        "system": f"{system.sysname} {system.release} {system.machine}",
    }


def _where() -> dict[str, str]:
    """Return the machine and the user that the task was run by."""
    import getpass  # which takes longer to import than a short task runs, and few ask for it

    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return {"host": os.uname().nodename, "user": user}


# --- files -----------------------------------------------------------------------------------------------------


def strings(data: JSON) -> Iterator[str]:
    """Give every string in a document that is not a key."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for value in data.values():
            yield from strings(value)
    elif isinstance(data, list):
        for value in data:
            yield from strings(value)


def files(result: JSON, folders: list[str], *, checksums: bool) -> list[dict[str, Any]]:
    """Describe the files and directories inside ``folders`` that a result names: path, size in bytes, SHA-256.

    :param folders: absolute paths; a name that is not absolute is taken to be inside the first.
    """
    described_files = []
    for text in dict.fromkeys(strings(result)):
        if "\0" in text or not text or not folders:
            continue
        path = text if text.startswith("/") else f"{folders[0]}/{text}"
        if any(path.startswith(folder + "/") for folder in folders):
            described = _described(path, checksums)
            if described is not None:
                described_files.append(described)
    return described_files


def _described(path: str, checksums: bool) -> dict[str, Any] | None:
    try:
        status = os.stat(path)
        if S_ISDIR(status.st_mode):
            return {"path": path, "type": "directory"}
        if not S_ISREG(status.st_mode):
            return {"path": path, "type": "other"}
        digest = {"sha256": _sha256(path)} if checksums else {}
    except OSError:
        return None  # not there, or not ours to read
    return {"path": path, "type": "file", "size": status.st_size, **digest}


def _sha256(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- secrets ---------------------------------------------------------------------------------------------------


def is_secret(name: str) -> bool:
    """Return whether a variable or parameter of this name holds a secret."""
    lowered = name.lower().replace("-", "_")
    return any(part in lowered for part in _SECRET_NAMES)


def secrets(environment: Mapping[str, str], parameters: JSON) -> set[str]:
    """Return the texts that must not stand in a record: values of variables and parameters with telling names."""
    secret = {environment[name] for name in environment if is_secret(name)}
    secret.update(_telling(parameters))
    return {text for text in secret if len(text) >= _SHORTEST_SECRET}


def _telling(data: JSON) -> Iterator[str]:
    """Give every string below a telling name, however deep that is."""
    if isinstance(data, dict):
        for name, value in data.items():
            yield from strings(value) if is_secret(str(name)) else _telling(value)
    elif isinstance(data, list):
        for value in data:
            if isinstance(value, (dict, list)):
                yield from _telling(value)


def masked(data: JSON, hidden: set[str]) -> JSON:
    """Return a document in which every text of ``hidden`` is ``***``."""
    if not hidden:
        return data
    if isinstance(data, str):
        for text in sorted(hidden, key=len, reverse=True):
            data = data.replace(text, MASK)
        return data
    if isinstance(data, dict):
        return {key: masked(value, hidden) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [masked(value, hidden) for value in data]
    return data
