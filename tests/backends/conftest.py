"""Engines for real: brokers started by tools/start-engines.sh, Celery workers and a cluster started here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from brokers import listens
from celeries import Program
from needs import need_engine
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = Path(sys.executable).parent
REDIS_PORT = int(os.environ.get("PACKTIVITY_TEST_REDIS_PORT", "26379"))
RABBIT_PORT = int(os.environ.get("PACKTIVITY_TEST_RABBIT_PORT", "25675"))


def _broker(name: str, port: int) -> str:
    need_engine(listens(port), f"{name} on port {port}")
    return f"127.0.0.1:{port}"


@pytest.fixture(scope="session")
def redis() -> str:
    """Address of a Redis."""
    return f"redis://{_broker('Redis', REDIS_PORT)}"


@pytest.fixture(scope="session")
def rabbit() -> str:
    """Address of a RabbitMQ."""
    return f"amqp://guest:guest@{_broker('RabbitMQ', RABBIT_PORT)}//"


def kill_group(process: subprocess.Popen[Any], number: int = signal.SIGKILL) -> None:
    """End a program that leads a session, with all its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    process.wait()


class CeleryWorker:
    """A worker with a queue of its own."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment, self.log = environment, folder / "celery.log"
        self.start()

    def start(self) -> None:
        argv = [str(BIN / "celery"), "-A", "packtivity.asyncbackends.default_celeryapp", "worker", "-c", "2"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*argv, "--loglevel", "INFO", "--without-gossip", "--without-mingle"],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        until(lambda: b" ready." in self.log.read_bytes() or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.log.read_text()


def celery_environment(kind: str, redis: str, broker: str, database: int) -> dict[str, str]:
    queue = f"test-{kind}-{os.getpid()}-{time.time_ns():x}"
    return {
        "PACKTIVITY_CELERY_REDIS_BROKER": broker,
        "PACKTIVITY_CELERY_RESULTS": f"{redis}/{database}",
        "PACKTIVITY_CELERY_QUEUE": queue,
        "PACKTIVITY_CELERY_VISIBILITY_TIMEOUT": "5",
        "PACKTIVITY_LOGGING_STREAM_LEVEL": "CRITICAL",
    }


def celery_backend(environment: dict[str, str]) -> Any:
    """Make a backend as a program with these variables would."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        from packtivity.backends.engines.celery import CeleryBackend, make_app

        return CeleryBackend(make_app())


@pytest.fixture(scope="session")
def state_home(tmp_path_factory) -> str:
    """Where everything of a session is known."""
    return str(tmp_path_factory.mktemp("packtivity-state"))


@pytest.fixture(autouse=True)
def _apart(monkeypatch, state_home):
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", state_home)
    monkeypatch.setenv("PACKTIVITY_LOGGING_STREAM_LEVEL", "CRITICAL")


@contextmanager
def _celery(kind: str, redis: str, broker: str, database: int, folder: Path, state_home: str) -> Iterator[Any]:
    """Give a backend with a worker, which ends at the end of the block."""
    pytest.importorskip("celery", reason="pip install 'packtivity[celery]'")
    environment = {**celery_environment(kind, redis, broker, database), "PACKTIVITY_STATE_DIR": state_home}
    worker = CeleryWorker(environment, folder)
    worker.wait_ready()
    backend = celery_backend(environment)
    yield backend
    kill_group(worker.process, signal.SIGKILL)
    backend.app.pool.force_close_all()
    backend.app.close()


@pytest.fixture(scope="session")
def celery_redis(redis, tmp_path_factory, state_home) -> Iterator[Any]:
    """Backend whose broker is Redis, with a worker."""
    with _celery("redis", redis, f"{redis}/2", 3, tmp_path_factory.mktemp("celery"), state_home) as backend:
        yield backend


@pytest.fixture(scope="session")
def celery_rabbit(redis, rabbit, tmp_path_factory, state_home) -> Iterator[Any]:
    """Backend whose broker is RabbitMQ, with a worker."""
    with _celery("rabbit", redis, rabbit, 4, tmp_path_factory.mktemp("celery"), state_home) as backend:
        yield backend


class Cluster:
    """A controller with two engines."""

    def __init__(self, folder: Path, state_home: str) -> None:
        self.environment = {**os.environ, "IPYTHONDIR": str(folder), "PACKTIVITY_STATE_DIR": state_home}
        self.environment["PACKTIVITY_LOGGING_STREAM_LEVEL"] = "CRITICAL"
        self.folder = folder
        self.log = folder / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(BIN / "ipcluster"), "start", "-n", "2", "--log-level=WARN", f"--ipython-dir={folder}"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def backend(self) -> Any:
        from ipyparallel import Client

        from packtivity.backends.engines.ipyparallel import IPythonParallelBackend

        file = self.folder / "profile_default" / "security" / "ipcontroller-client.json"
        until(file.exists, 60)
        client = Client(str(file), timeout=30)
        client.wait_for_engines(2, timeout=60, interactive=False)
        return IPythonParallelBackend(client)

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            kill_group(self.process)


@pytest.fixture(scope="session")
def ipcluster(tmp_path_factory, state_home) -> Iterator[Any]:
    """Backend of a cluster."""
    pytest.importorskip("ipyparallel", reason="pip install 'packtivity[ipyparallel]'")
    cluster = Cluster(tmp_path_factory.mktemp("ipython"), state_home)
    try:
        backend = cluster.backend()
        yield backend
        backend.client.close()
    finally:
        cluster.close()


@pytest.fixture
def workers(tmp_path):
    """Start workers; they are killed with the test."""
    made = []

    def start(environment, *options, processes=1):
        made.append(Program(tmp_path, environment, *options, processes=processes))
        return made[-1]

    yield start
    for each in made:
        each.kill()


@pytest.fixture
def backend_for(monkeypatch):
    """Make a backend as a program with these variables would."""

    def make(environment, **options):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        from packtivity.backends.engines.celery import CeleryBackend, make_app

        return CeleryBackend(make_app(), **options)  # its connections are those of every application here

    return make
