"""Makes images available: at most one pull of an image at a time, and a note of what is in the store.

A note says which digest an image had when the store was last inspected. A run that finds a fresh note starts at once;
when it is old, the store is inspected before.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from threading import Event
from typing import TYPE_CHECKING, TypeAlias

from packtivity import folders, settings
from packtivity.errors import EnvironmentUnavailable, StateError, TaskCancelled
from packtivity.files import lock, read_json, replacing
from packtivity.runtimes.cgroup import text
from packtivity.runtimes.choose import explanation, probe
from packtivity.runtimes.cleanup import Cleanup, new_name
from packtivity.runtimes.images import (
    Image,
    existing,
    matching_digest,
    may_be_image,
    parse,
    refuse_foreign,
    unpacked_candidates,
)
from packtivity.spec.image_names import archive_path, is_path, is_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from packtivity.runtimes.base import Runtime

_IDENTIFIER = re.compile(r"(sha256:)?[0-9a-f]{64}")

_POLL = 0.1
"""Seconds between looks whether another pull is over."""


Puller: TypeAlias = "Callable[[tuple[str, ...], str | None, str | None], None]"
"""Pulls an image by some arguments, its output going to the log of the topic ``pull``.

The second argument is the file that it makes, which becomes the third when it is whole, or goes. Raises
EnvironmentUnavailable when the image cannot be fetched.
"""


def folder(*, make: bool = False) -> str:
    """Return where notes, locks and SIF files are."""
    return folders.cached(settings.current().cache_dir, "images", make=make)


def note_path(runtime: Runtime, image: str) -> str:
    """Return the file with the note on an image."""
    store = runtime.store(settings.caller_environment())
    key = hashlib.sha256(f"{runtime.program}\0{store}\0{image}".encode()).hexdigest()[:40]
    return os.path.join(folder(), f"{runtime.name}-{key}.json")


def read_note(runtime: Runtime, image: str) -> Image | None:
    """Return the note on an image; ``None`` when there is none or the image is gone."""
    try:
        document = read_json(note_path(runtime, image), follow=True)
        note = Image(**{**document, "ids": document["ids"] and tuple(document["ids"])})
    except (StateError, TypeError, KeyError):
        return None
    return note if runtime.has_store or os.path.exists(note.run) else None


def write_note(runtime: Runtime, image: Image) -> None:
    """Write the note on an image; where that is impossible, the next run inspects the store again."""
    with suppress(OSError, StateError):
        folder(make=True)
        with replacing(note_path(runtime, image.reference)) as temporary, open(temporary, "x") as file:
            json.dump(asdict(image), file)


def forget(runtime: Runtime, image: str) -> None:
    """Remove the note on an image that is no longer available."""
    with suppress(OSError):
        os.unlink(note_path(runtime, image))


# --- folders and files -----------------------------------------------------------------------------------------


def local_image(
    runtime: Runtime, reference: str, *, unpacked: bool, allowed: Sequence[str] | None = None
) -> Image | None:
    """Return an image that is a folder or a file; ``None`` when it has to be in the tool's store.

    :param unpacked: whether a folder on CVMFS is preferred to the registry.
    :param allowed: folders and files besides CVMFS that a document may name; ``None`` for those of the setting.
    :raises EnvironmentUnavailable: it is not there, not to be named by a document, or nothing that the tool can run.
    """
    allowed = settings.current().image_dirs if allowed is None else allowed
    archive = archive_path(reference)
    if archive is not None:
        refuse_foreign(reference, archive, allowed)
    if is_path(reference):
        path = existing(unpacked_candidates(reference))
        refuse_foreign(reference, path or reference, allowed)
        if path is None:
            hint = "Is the path right, and is it mounted on this machine?"
            if reference.startswith("/cvmfs/") and not os.path.isdir("/cvmfs"):
                hint = "There is no /cvmfs on this machine: install CVMFS, or name the image in its registry."
            raise EnvironmentUnavailable(f"the image {reference} is not here", hint=hint)
        return _checked_local(runtime, reference, path)
    path = existing(unpacked_candidates(reference)) if unpacked and runtime.runs_folders else None
    return (
        None
        if path is None or not may_be_image(path, allowed)
        else Image(reference, path, identifier=path, seen=time.time())
    )


def _checked_local(runtime: Runtime, reference: str, path: str) -> Image:
    if os.path.isdir(path):
        if not runtime.runs_folders:
            raise runtime.refusal(f"run the folder {path}", "Use apptainer or podman (--runtime), or a registry image.")
        return Image(reference, path, identifier=path, seen=time.time())
    if runtime.has_store:
        raise runtime.refusal(f"run the SIF file {path}", "Use apptainer (--runtime), or an image in a registry.")
    return Image(reference, path, identifier=_stamp(path), seen=time.time())


def _stamp(path: str) -> str:
    """Tell one content of a file from another without reading gigabytes."""
    status = os.stat(path)
    return f"file:{status.st_size}:{status.st_mtime_ns}"


# --- a tool's store --------------------------------------------------------------------------------------------


def inspect(runtime: Runtime, reference: str) -> Image | None:
    """Inspect an image in the tool's store and note the result; ``None`` when it is not there."""
    if not runtime.has_store:
        return read_note(runtime, reference)
    for name in runtime.names(reference):
        answer = probe(runtime.inspect_argv(name))
        if answer.code == 0:
            break
    else:
        return None
    identifier, known, user = _identity(answer.text)
    image = Image(reference, name, matching_digest(reference, known), identifier, user=user, seen=time.time())
    before = read_note(runtime, reference)
    if before is not None and identifier and before.identifier == identifier:
        image = replace(image, ids=before.ids)  # the same image has the same user: its passwd is not looked at again
    write_note(runtime, image)
    return image


def user_ids(runtime: Runtime, image: Image) -> tuple[int, int]:
    """Return user and group id of the image's own user; its passwd is looked at once.

    :raises EnvironmentUnavailable: the image has no such user.
    """
    if image.ids is not None:
        return image.ids
    name, _, group = image.user.partition(":")
    if not name:
        return 0, 0
    if name.isdecimal() and group.isdecimal():
        return int(name), int(group)
    ids = _look_up(runtime, image, name, group)
    write_note(runtime, replace(image, ids=ids))
    return ids


def _look_up(runtime: Runtime, image: Image, name: str, group: str) -> tuple[int, int]:
    container = new_name()
    known: dict[str, list[list[str]]] = {"passwd": [], "group": []}
    with Cleanup(container, runtime.remove_argv(container)) as life:
        if probe(runtime.create_argv(image.run, container)).code == 0:
            for file, entries in known.items():
                copy = os.path.join(life.folder, file)
                probe(runtime.copy_argv(container, f"/etc/{file}", copy))
                if os.path.isfile(copy) and not os.path.islink(copy):  # an image may have put a link there
                    entries += [line.split(":") for line in text(copy).splitlines()]
            probe(runtime.remove_argv(container))
    users = [fields for fields in known["passwd"] if len(fields) > 3 and name in (fields[0], fields[2])]
    groups = [fields for fields in known["group"] if len(fields) > 2 and group in (fields[0], fields[2])]
    uid = name if name.isdecimal() else users[0][2] if users else ""
    gid = group if group.isdecimal() else groups[0][2] if groups else users[0][3] if users else "0"
    if not (uid.isdecimal() and gid.isdecimal()):
        raise EnvironmentUnavailable(
            f"user {image.user!r} of image {image.reference} is not in the image's /etc/passwd",
            hint="Run it as another user: --user caller, or --user UID:GID.",
        )
    return int(uid), int(gid)


def _identity(said: str) -> tuple[str, list[str], str]:
    """Return identifier, digests and user of an image from what a tool says, which may have warned of something else before.

    udocker and Shifter have their own ways of saying that it is here: neither is known of them.
    """
    for line in reversed(said.splitlines()):
        identifier, _, rest = line.strip().partition(" ")
        if _IDENTIFIER.fullmatch(identifier):
            with suppress(ValueError):
                digests, end = json.JSONDecoder().raw_decode(rest or "[]")
                user = json.loads(rest[end:].strip() or '""') or ""
                return f"sha256:{identifier.removeprefix('sha256:')}", digests or [], str(user)
    return "", [], ""


def fetch(
    runtime: Runtime,
    reference: str,
    policy: str,
    pull: Puller,
    say: Callable[[str], None],
    cancelled: Callable[[], bool] = bool,
) -> Image:
    """Return an image, pulled if necessary.

    :param policy: ``missing``, ``always`` or ``never``.
    :param say: called with what is being waited for.
    :param cancelled: polled while another pull of the image is waited for.
    :raises EnvironmentUnavailable: it is not available and may not or cannot be pulled.
    :raises TaskCancelled: it was cancelled.
    """
    if policy != "always" and (image := inspect(runtime, reference)):
        return image
    if policy == "never":
        raise EnvironmentUnavailable(
            f"image {reference} is not available locally, and pulling is disabled",
            hint=explanation(runtime)
            or f"Allow it (--pull missing), or fetch it with: {' '.join(runtime.pull_argv(runtime.names(reference)[0], 'IMAGE.sif'))}",
        )
    began = time.time()
    waiting = f"waiting for a pull of {reference}"
    with _one_at_a_time(note_path(runtime, reference) + ".lock", lambda: say(waiting), cancelled):
        if policy == "always" and (note := read_note(runtime, reference)) and note.seen > began:
            return note  # pulled by another process while we waited
        if policy != "always" and (image := inspect(runtime, reference)):
            return image
        say(f"pulling {reference}")
        return _pull(runtime, reference, pull)


def _pull(runtime: Runtime, reference: str, pull: Puller) -> Image:
    if not runtime.has_store:
        return _pull_file(runtime, reference, pull)
    pull(runtime.pull_argv(runtime.names(reference)[0], ""), None, None)
    image = inspect(runtime, reference)
    if image is None:
        raise EnvironmentUnavailable(f"{runtime.name} has pulled {reference}, and yet does not have it")
    return image


def _pull_file(runtime: Runtime, reference: str, pull: Puller) -> Image:
    """Make a SIF file in our cache, of exactly what the tag names at this moment."""
    from packtivity.runtimes.oci_registry import describe

    image = (None if is_uri(reference) else describe(reference)) or Image(reference, reference)
    target = os.path.splitext(note_path(runtime, reference))[0] + ".sif"
    pinned = f"{parse(reference).name}@{image.digest}" if image.digest else reference
    part = f"{target}.{os.urandom(4).hex()}.part"
    pull(runtime.pull_argv(pinned, part), part, target)
    image = replace(image, run=target, identifier=_stamp(target), seen=time.time())
    write_note(runtime, image)
    return image


@contextmanager
def _one_at_a_time(path: str, waiting: Callable[[], None], cancelled: Callable[[], bool]) -> Iterator[None]:
    """Hold a lock that the system releases when we die, however we die."""
    folder(make=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StateError.of(
            error,
            f"the lock {path} cannot be made: {error.strerror}",
            hint="Set PACKTIVITY_CACHE_DIR to another place.",
        ) from error
    try:
        if not lock(descriptor):
            waiting()
        idle = Event()
        while not lock(descriptor):
            if cancelled():
                raise TaskCancelled("the task was cancelled while it waited for a pull of its image")
            idle.wait(_POLL)
        yield
    finally:
        os.close(descriptor)
