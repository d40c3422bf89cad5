"""Celery workers of a test's own, and what is submitted to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress

from arena import BIN, TASK
from specs import command_spec, constant
from waiting import until

from packtivity.statecontexts import LocalFSState

PURE = {"process": None, "environment": None, "publisher": {"publisher_type": "constant-pub", "publish": {"a": 1}}}
SHELL = command_spec("{cmd}", constant({"a": 1}))


def environment_of(broker, results, **more):
    return {
        "PACKTIVITY_CELERY_REDIS_BROKER": broker,
        "PACKTIVITY_CELERY_RESULTS": results,
        "PACKTIVITY_CELERY_QUEUE": f"test-{os.getpid()}-{time.time_ns():x}",
        "PACKTIVITY_CELERY_VISIBILITY_TIMEOUT": "4",
        "PACKTIVITY_LOGGING_STREAM_LEVEL": "CRITICAL",
        **more,
    }


class Program:
    """A Celery worker in a session of its own."""

    def __init__(self, folder, environment, *options, processes=1):
        self.log = folder / f"worker-{time.time_ns():x}.log"
        argv = [str(BIN / "celery"), "-A", "packtivity.asyncbackends.default_celeryapp", "worker", f"-c{processes}"]
        argv += ["--loglevel", "INFO", "--without-gossip", "--without-mingle", "-n", f"{time.time_ns():x}@%h"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*argv, *options],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self):
        until(lambda: b" ready." in self.log.read_bytes() or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.log.read_text()
        return self

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def state_in(folder):
    state = LocalFSState([str(folder)])
    state.ensure()
    return state


def submit(backend, folder, seconds):
    given = {"seconds": seconds, "n": 1, "out": "{workdir}/out"}
    return backend.submit(TASK, given, state_in(folder), {"name": "task"})


def checkproxy(folder, proxy, *options, **environment):
    (folder / "proxy.json").write_text(json.dumps(proxy.json()))
    return subprocess.run(
        [BIN / "packtivity-checkproxy", folder / "proxy.json", *options],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
