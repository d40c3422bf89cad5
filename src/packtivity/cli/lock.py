"""The command ``packtivity lock``: the digest of the image that a spec uses."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from packtivity.cli import start
from packtivity.cli.inputs import container_choices, load_spec
from packtivity.cli.terminal import say
from packtivity.errors import UsageError
from packtivity.handlers.config import container_config
from packtivity.runtimes.choose import choose
from packtivity.runtimes.containers import image_of
from packtivity.runtimes.image_store import inspect
from packtivity.runtimes.images import digest_of, write_lock
from packtivity.runtimes.supervise import Supervision, find_image
from packtivity.spec.remote import without_secrets
from packtivity.types import Execution

if TYPE_CHECKING:
    from packtivity.cli.declarations import LockOptions


def supervision(config: container_config) -> Supervision:
    """Return how a command of a person at a terminal uses images: it says on standard error what it does."""
    return Supervision(
        lambda line: say(line, err=True), lambda: nullcontext(None), policy=config.pull_policy(), locked=config.locked()
    )


def lock_image(options: LockOptions) -> None:
    """Carry out ``packtivity lock``.

    :raises UsageError: the spec uses no image.
    :raises PacktivityError: no tool works, or the image cannot be pulled.
    """
    spec = load_spec(options)
    start.allow_interrupts()
    image, unpacked = image_of(spec["environment"] or {})
    if image is None:
        raise UsageError(f"{without_secrets(options.spec)} does not run in a container, so there is nothing to lock")
    config = container_config(container_choices(options))
    runtime = choose(config.runtime())
    execution = Execution((), image=image, unpacked=unpacked, image_dirs=config.image_dirs())
    found = find_image(runtime, execution, supervision(config))
    if not found.is_fresh:
        found = inspect(runtime, image) or found
    digest = digest_of(found, runtime)
    write_lock(options.lockfile, {image: digest})
    say(f"{image} {digest}")
