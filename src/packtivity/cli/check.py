"""The command ``packtivity-checkproxy``: how a submitted task went."""

from __future__ import annotations

from typing import Any

import click

from packtivity.cli import options
from packtivity.cli.command import collect_garbage, command

_FILES = click.argument(
    "jsonfiles", nargs=-1, required=True, metavar="JSONFILE...", type=click.Path(dir_okay=False, readable=False)
)


@command("packtivity-checkproxy", _FILES, options.debug, options.version)
def checkproxy(jsonfiles: tuple[str, ...]) -> None:
    """Ask how a submitted task went.

    JSONFILE is what packtivity-run --async wrote (proxy.json). Printed are the lines "ready: True|False", when it is
    ready "successful: True|False", and when it was successful "result: JSON". Why a task failed is told on standard
    error. The exit code is 0 whether or not the task was successful; other codes say that it could not be found out.
    """
    for name in jsonfiles:
        if len(jsonfiles) > 1:
            click.echo(f"{name}:")
        _check(name)


def _check(name: str) -> None:
    import json

    from packtivity.backends.registry import load_proxy
    from packtivity.cli.errors import warn
    from packtivity.cli.output import plain
    from packtivity.errors import ProxyError
    from packtivity.plugins import enable_plugins

    collect_garbage()
    enable_plugins()
    proxy, backend = load_proxy(_read(name), best_effort_backend=True, raise_on_unknown=True)
    if backend is None:
        raise ProxyError(
            f"proxy file {name}: nobody here knows the backend of a {type(proxy).__name__}",
            hint="Set PACKTIVITY_ASYNCBACKEND=module:backendclass:proxyclass as when the task was submitted.",
        )
    if not backend.ready(proxy):
        click.echo("ready: False")
        return
    click.echo("ready: True")
    successful = bool(backend.successful(proxy))
    click.echo(f"successful: {successful}")
    if successful:
        click.echo(f"result: {json.dumps(plain(backend.result(proxy)))}")
        return
    reason = backend.fail_info(proxy)
    if reason:
        text = ": ".join(map(str, reason)) if isinstance(reason, tuple) else str(reason)
        warn("the task failed: " + "\n  ".join(text.splitlines()))


def _read(name: str) -> Any:
    import json

    from packtivity.errors import ProxyError

    hint = "Give the file that packtivity-run --async wrote (--proxyfile)."
    try:
        with open(name, encoding="utf-8") as file:
            found = json.load(file)
    except OSError as error:
        raise ProxyError(f"proxy file {name}: {error.strerror}", hint=hint) from None
    except (ValueError, RecursionError) as error:
        raise ProxyError(f"proxy file {name}: not JSON: {error}", hint=hint) from None
    if not (isinstance(found, dict) and isinstance(found.get("proxyname"), str)):
        raise ProxyError(f"proxy file {name}: has no 'proxyname', so it is not a proxy", hint=hint)
    return found
