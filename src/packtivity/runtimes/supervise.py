"""Runs a planned container from image to end: gets the image, starts the container, cleans up, says what failed."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from packtivity import errors, notes
from packtivity.files import write_whole
from packtivity.runtimes import credentials, image_store, ownership, process
from packtivity.runtimes.base import Launch
from packtivity.runtimes.cgroup import Usage
from packtivity.runtimes.choose import explanation, probe
from packtivity.runtimes.cleanup import Cleanup, new_name
from packtivity.runtimes.container_stats import ContainerStats
from packtivity.runtimes.containers import inside
from packtivity.runtimes.images import locked_reference
from packtivity.settings import caller_environment, current, temporary_dir
from packtivity.types import Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from packtivity.runtimes.base import Runtime
    from packtivity.runtimes.cancellation import Cancellation
    from packtivity.runtimes.images import Image
    from packtivity.types import Completed, Mount, Reporter, RunLog

    Give = Callable[[list[str]], None]
    OpenLog = Callable[[], AbstractContextManager[RunLog | None]]


@dataclass(frozen=True, slots=True)
class Supervision:
    """How a run is watched, and by what rules.

    :ivar say: called with what is being done, in one line.
    :ivar pull_log: opens the log that a pull's output goes to.
    :ivar policy: ``missing``, ``always`` or ``never``: when images are pulled.
    :ivar locked: the digest each image must have; ``None`` when any will do.
    :ivar noted: whether it is the task itself, whose record says what it has used.
    :ivar warn: called with what the user should know of the task's files, in one line.
    """

    say: Callable[[str], None]
    pull_log: OpenLog
    reporter: Reporter | None = None
    cancel: Cancellation | None = None
    grace: float = 10.0
    policy: str = "missing"
    locked: Mapping[str, str] | None = None
    noted: bool = True
    warn: Callable[[str], None] | None = None

    def is_cancelled(self) -> bool:
        """Return whether cancellation was requested."""
        return self.cancel is not None and self.cancel.cancelled

    def run(self, execution: Execution, log: RunLog | None) -> Completed:
        """Run a plain execution, watched."""
        return process.run(
            execution, log=log, reporter=self.reporter, grace=self.grace, cancel=self.cancel, noted=self.noted
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """A container that has ended.

    :ivar completed: how its tool ended; CPU and memory are the tool's own where a daemon runs the container.
    :ivar image: what it was made from.
    :ivar name: what the container was called.
    :ivar argv: what was run.
    :ivar usage: what the container itself has used; None where nothing could count it.
    """

    completed: Completed
    image: Image
    name: str
    argv: tuple[str, ...]
    usage: Usage | None = None


# --- image -----------------------------------------------------------------------------------------------------


def find_image(runtime: Runtime, execution: Execution, watch: Supervision) -> Image:
    """Return the image to run, pulled if need be.

    :raises EnvironmentUnavailable: it cannot be had, or is not the locked one.
    :raises TaskCancelled: it was cancelled.
    """
    reference = str(execution.image)
    local = image_store.local_image(runtime, reference, unpacked=execution.unpacked, allowed=execution.image_dirs)
    if local is not None:
        return _as_locked(local, watch.locked)
    wanted = locked_reference(reference, watch.locked)
    note = None if watch.policy == "always" else image_store.read_note(runtime, wanted)
    if note is not None and (note.is_fresh or not runtime.has_store):
        return note
    return image_store.fetch(runtime, wanted, watch.policy, _puller(runtime, watch), watch.say, watch.is_cancelled)


def _as_locked(image: Image, locked: Mapping[str, str] | None) -> Image:
    if locked is not None and locked.get(image.reference) != image.identifier:
        raise errors.EnvironmentUnavailable(
            f"the image {image.reference} is not the locked one: it is {image.identifier}, "
            f"and the lock file says {locked.get(image.reference, 'nothing')}",
            hint="If the change is wanted: packtivity lock SPEC",
        )
    return image


def _puller(runtime: Runtime, watch: Supervision) -> image_store.Puller:
    def pull(argv: tuple[str, ...], part: str | None, target: str | None) -> None:
        remove = ("rm", "-f", part) if part is not None else ()
        # What the tool unpacks on its way lies in a folder that goes with it.
        with watch.pull_log() as log, Cleanup(new_name(), remove, temporary_dir(large=True)) as cleanup:
            done = replace(watch, noted=False).run(Execution(cleanup.argv(argv), env={"TMPDIR": cleanup.folder}), log)
            if done.returncode:
                cleanup.cut()
            elif part is not None and target is not None:
                os.replace(part, target)
        if done.returncode:
            raise _pull_failed(runtime, argv, done)

    return pull


def _pull_failed(runtime: Runtime, argv: tuple[str, ...], done: Completed) -> errors.EnvironmentUnavailable:
    text = done.tail.decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = "\n".join(f"  | {line}" for line in lines[-5:])
    denied = any(word in text.lower() for word in ("denied", "unauthorized", "authentication", "credentials"))
    login = f"If it is private, log in with the tool itself: {os.path.basename(argv[0])} {runtime.login}"
    return errors.EnvironmentUnavailable(
        f"the image cannot be pulled (exit code {done.returncode}): {' '.join(argv)}\n{last}",
        hint=explanation(runtime) or (login if denied else "Is its name right, and the registry in reach?"),
    )


# --- start to end ----------------------------------------------------------------------------------------------


def run_container(runtime: Runtime, execution: Execution, log: RunLog | None, watch: Supervision) -> Ended:
    """Run a container to its end; it is gone when this returns or raises.

    :raises EnvironmentUnavailable: the image cannot be had, or the tool cannot start the container.
    :raises StateError: something to be mounted is not there.
    """
    execution, image = _prepared(runtime, execution, watch)
    notes.current().image = image.note()
    quiet = replace(watch, reporter=None, cancel=None, noted=False)
    task = ownership.task_uid(runtime, execution, lambda: image_store.user_ids(runtime, image)[0])
    helper = partial(_run_helper, runtime, image, quiet)
    give = None if task is None else partial(ownership.hand_over, task, runtime.host, execution, helper)
    with ownership.shared(runtime, execution, task, helper, watch.warn or watch.say) as shared:
        ended = _run_again_if_gone(runtime, shared, image, log, watch, give)
    _refuse_failed_start(runtime, ended)
    return ended


def _prepared(runtime: Runtime, execution: Execution, watch: Supervision) -> tuple[Execution, Image]:
    write_files(execution)
    execution = with_what_is_there(execution)
    return execution, find_image(runtime, execution, watch)


def _run_again_if_gone(
    runtime: Runtime, execution: Execution, image: Image, log: RunLog | None, watch: Supervision, give: Give | None
) -> Ended:
    """Run; once more if the image was noted to be here and has been removed since."""
    ended = _run(runtime, execution, image, log, watch, give)
    complaint = _complaint(runtime, ended).lower()
    if any(words in complaint for words in ("no such image", "image not known")):
        watch.say(f"the image {image.reference} was here and is no longer")
        image_store.forget(runtime, image.reference)
        ended = _run(runtime, execution, find_image(runtime, execution, watch), log, watch, give)
    return ended


def _run_helper(runtime: Runtime, image: Image, watch: Supervision, execution: Execution) -> Completed:
    return _run(runtime, execution, image, None, watch).completed


def _launch(runtime: Runtime, execution: Execution, image: Image, cleanup: Cleanup) -> Launch:
    """Decide what is decided last; the image's own user only for a tool that does not look itself."""
    user = None
    if execution.as_image_says and not runtime.has_store:
        user = image.user if image.digest else None
    elif execution.as_image_says and runtime.host.rootless and image.user:
        uid, gid = image_store.user_ids(runtime, image)
        user = f"{uid}:{gid}" if uid else None
    scratch = cleanup.folder if runtime.needs_scratch else None
    return Launch(image.run, cleanup.name, scratch, image.workdir or None, user, image.home)


def _run(
    runtime: Runtime,
    execution: Execution,
    image: Image,
    log: RunLog | None,
    watch: Supervision,
    give: Give | None = None,
) -> Ended:
    """Run once.

    :param give: makes copies of the caller's credentials the task's own, where it is another user.
    """
    name = new_name()
    with Cleanup(name, runtime.remove_argv(name)) as cleanup:
        execution = _with_copies(execution, cleanup.folder, give)
        stats = None if runtime.is_child else ContainerStats(cleanup.folder)
        launch = _launch(runtime, execution, image, cleanup)
        if stats is not None:
            launch = replace(launch, cidfile=stats.cidfile, pidfile=stats.pidfile)
        argv = runtime.run_argv(execution, launch)
        if watch.noted:
            notes.current().argv = list(argv)
        # The tool's own temporary files go with the folder.
        env = {"TMPDIR": cleanup.folder, **runtime.client_env(execution, caller_environment())}
        client = Execution(cleanup.argv(argv), stdin=execution.stdin, env=env, timeout=execution.timeout)
        try:
            with stats or nullcontext():
                completed = watch.run(client, log)
        finally:
            if watch.noted and stats is not None:
                note_usage(stats.usage)
        if completed.timed_out or completed.returncode < 0:
            cleanup.cut()  # a tool that was sent a signal may not have cleaned up
    return Ended(completed, image, name, argv, stats.usage if stats is not None else None)


def _with_copies(execution: Execution, folder: str, give: Give | None) -> Execution:
    """Give the task copies of the caller's credentials that cannot be mounted as they are."""
    execution, copies = credentials.copied(execution, folder, every=give is not None)
    if give is not None:
        give(copies)
    return execution


def note_usage(usage: Usage | None) -> None:
    """Note what a container has used, which is not what the system counts for its tool."""
    usage = usage or Usage(None)
    run = notes.current()
    run.usage = usage.to_json()
    run.out_of_memory = None if usage.killed is None else usage.killed > 0


def attach_container(runtime: Runtime, execution: Execution, watch: Supervision) -> int:
    """Run a container that has our terminal, and return its exit code; it is gone when this returns or raises.

    :raises EnvironmentUnavailable: the image cannot be had.
    :raises StateError: something to be mounted is not there.
    """
    execution, image = _prepared(runtime, execution, watch)
    name = new_name()
    task = None
    if credentials.given(execution):
        task = ownership.task_uid(runtime, execution, lambda: image_store.user_ids(runtime, image)[0])
    helper = partial(_run_helper, runtime, image, replace(watch, noted=False))
    give = None if task is None else partial(ownership.hand_over, task, runtime.host, execution, helper)
    with Cleanup(name, runtime.remove_argv(name)) as cleanup:
        execution = _with_copies(execution, cleanup.folder, give)
        launch = _launch(runtime, execution, image, cleanup)
        argv = runtime.run_argv(execution, launch)
        code = process.attach(cleanup.argv(argv), env=runtime.client_env(execution, caller_environment()))
        if code < 0:
            cleanup.cut()
    return code


def with_what_is_there(execution: Execution) -> Execution:
    """Leave out read-only directories that do not exist; yadage names one for inputs whether or not there are any.

    Tools have poor messages for a missing mount, or create an empty directory in its place.

    :raises StateError: a directory that the task is to write to is missing.
    :raises EnvironmentUnavailable: something else is.
    """
    location = current().workdir_location
    missing = [
        mount
        for mount in execution.mounts
        if mount.kind == "bind"
        and not credentials.is_cache(mount.source)
        and not os.path.exists(inside(mount.source, location))
    ]
    left_out = [mount for mount in missing if mount.readonly and _is_of_state(mount, location)]
    for mount in missing:
        if _is_of_state(mount, location) and not mount.readonly:
            raise errors.StateError(f"the directory {mount.destination} is not there, so it cannot be mounted")
        if mount not in left_out and location is None:  # else a daemon elsewhere may well have it
            raise errors.EnvironmentUnavailable(
                f"{mount.source}, which the task wants to see at {mount.destination}, is not here"
            )
    kept = tuple(mount for mount in execution.mounts if mount not in left_out)
    return replace(execution, mounts=kept) if left_out else execution


def _is_of_state(mount: Mount, location: str | None) -> bool:
    return inside(mount.source, location) == mount.destination != "/cvmfs"


def write_files(execution: Execution) -> None:
    """Write the files of an execution, each atomically.

    :raises StateError: one cannot be written.
    """
    for path, content in execution.files:
        write_whole(path, content)


# --- what went wrong -------------------------------------------------------------------------------------------


def _complaint(runtime: Runtime, ended: Ended) -> str:
    """Return the tool's message that it could not start the container; empty when there is none."""
    done = ended.completed
    begins = () if done.timed_out else runtime.refusals.get(done.returncode, ())
    lines = [line.strip() for line in done.tail.decode("utf-8", "replace").splitlines() if line.strip()]
    return next((line for line in lines[-8:] if line.startswith(begins)), "")


_NO_GPU = "There is no GPU that containers may have (NVIDIA Container Toolkit): leave --gpus away, or run it elsewhere."
_NO_SHELL = "The image has no shell (sh), which commands and scripts are run by."
_ADVICE = (
    ("docker-init", "Install tini, whose program Docker gives to containers."),
    ("invalid mount config", "Is the directory on the machine that runs the daemon?"),
    ("bind source path does not exist", "The daemon runs elsewhere? Say how it calls it: PACKTIVITY_WORKDIR_LOCATION."),
    ("cgroup", "Limits need cgroups version 2 for ordinary users: leave --cpus and --memory away here."),
    ("device driver", _NO_GPU),
    ("cdi devices", _NO_GPU),
    ("no space left", "The disk that images and containers are kept on is full."),
    ("permission denied", "packtivity doctor says what this user may do."),
    ('"sh"', _NO_SHELL),
    ("`sh`", _NO_SHELL),
    ("exec sh failed", _NO_SHELL),
    ("failed to exec pid1", _NO_SHELL),
)


def _refuse_failed_start(runtime: Runtime, ended: Ended) -> None:
    """Distinguish a container that could not be started from a task that failed.

    :raises EnvironmentUnavailable: it could not be started.
    """
    reason = _complaint(runtime, ended)
    if not reason:
        return
    advice = (text for word, text in _ADVICE if word in reason.lower())
    raise errors.EnvironmentUnavailable(
        f"{runtime.name} could not start the container (exit code {ended.completed.returncode}): {reason}",
        hint=explanation(runtime) or next(advice, "packtivity doctor tells more; the command is in the step log."),
    )


def is_out_of_memory(runtime: Runtime, execution: Execution, ended: Ended) -> bool:
    """Return whether a container was killed because its memory ran out.

    Its cgroup counts that, and Docker remembers it. Elsewhere, a task that has a memory limit and was killed is taken as
    such.
    """
    done = ended.completed
    if done.returncode == 0 or done.timed_out:
        return False
    if ended.usage is not None and ended.usage.killed is not None:
        return ended.usage.killed > 0
    if done.returncode != 137 and ended.usage is None:
        return False
    argv = runtime.out_of_memory_argv(ended.name, done.started, done.ended)
    if not argv:
        return done.returncode == 137 and execution.limits.memory is not None
    return "oom" in probe(argv).text.splitlines()
