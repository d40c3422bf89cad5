"""Tasks on engines, against the engine's own tasks that run the same subprocess, on the same workers in the same run.

    python benchmarks/bench_engines.py [celery-redis] [celery-rabbit] [ipyparallel] [--tasks N] [--rounds N]

A task is ``sh -c true``, each of ours in a directory of its own, with its record; the directories are made and taken away
off the clock. Rounds alternate between bare and ours; the ratio that counts is the median. The programs of an engine are started for the benchmark, on ports of its own.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from task import BIN, SPEC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WANTED = 0.70


class Engine:
    """Two ways to run tasks on the same workers.

    :param bare: runs a number of tasks and returns when all results are there.
    :param backend: of ours.
    """

    def __init__(self, bare: Callable[[int], None], backend: Any) -> None:
        self.bare, self.backend = bare, backend


def compare(name: str, engine: Engine, tasks: int, rounds: int) -> None:
    """Print the rates, round by round, and the median of their ratios."""
    bare_rate(engine.bare, 20)
    our_rate(engine.backend, 20)
    ratios = []
    for _ in range(rounds):
        bare, ours = bare_rate(engine.bare, tasks), our_rate(engine.backend, tasks)
        ratios.append(ours / bare)
        print(f"{name:14} bare {bare:6.0f}/s   ours {ours:6.0f}/s   ratio {ours / bare:4.2f}", flush=True)
    print(f"{name:14} median ratio {statistics.median(ratios):4.2f} (wanted: {WANTED:4.2f})", flush=True)


def bare_rate(run: Callable[[int], None], tasks: int) -> float:
    """Return tasks a second."""
    started = time.perf_counter()
    run(tasks)
    return tasks / (time.perf_counter() - started)


def our_rate(backend: Any, tasks: int) -> float:
    """Return tasks a second that are submitted to a backend of ours, and whose results are read."""
    from packtivity.statecontexts import LocalFSState

    with tempfile.TemporaryDirectory() as folder:
        states = [LocalFSState([f"{folder}/{number}"]) for number in range(tasks)]
        for state in states:
            state.ensure()
        started = time.perf_counter()
        proxies = backend.batch_submit([(SPEC, {}, state, {"name": "bench"}) for state in states])
        for proxy in proxies:
            backend.result(proxy)
        return tasks / (time.perf_counter() - started)


# --- programs --------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_port(port: int, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline:
            sys.exit(f"nothing listens on port {port}")
        time.sleep(0.05)


@contextmanager
def program(*argv: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs as long as the block, in a session of its own."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis of our own; its address."""
    port = free_port()
    argv = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with program(*argv, log=folder / "redis.log"):
        await_port(port)
        yield f"redis://127.0.0.1:{port}/0"


# --- Celery ----------------------------------------------------------------------------------------------------

BARE = """
import subprocess
from celery import shared_task

@shared_task(name="bench.bare")
def bare():
    return subprocess.run(["sh", "-c", "true"], check=True).returncode
"""


@contextmanager
def celery(folder: Path, broker: str, results: str) -> Iterator[Engine]:
    """A worker with two processes, for bare tasks and for ours; the bare ones have every setting of our application."""
    (folder / "bench_bare.py").write_text(BARE, encoding="utf-8")
    os.environ.update(
        PACKTIVITY_CELERY_REDIS_BROKER=broker,
        PACKTIVITY_CELERY_RESULTS=results,
        PACKTIVITY_CELERY_QUEUE=f"bench-{os.getpid()}",
        PYTHONPATH=str(folder),
    )
    sys.path.insert(0, str(folder))
    from packtivity.backends.engines.celery import CeleryBackend, make_app

    app = make_app()
    app.set_default()
    from bench_bare import bare

    argv = [str(BIN / "celery"), "-A", "packtivity.asyncbackends.default_celeryapp", "worker", "-c", "2"]
    argv += ["-I", "bench_bare", "--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
    with program(*argv, log=folder / "celery.log"):
        task = app.tasks[bare.name]

        def run_bare(tasks: int) -> None:
            for result in [task.apply_async() for _ in range(tasks)]:
                result.get()

        backend = CeleryBackend(app)
        yield Engine(run_bare, backend)
    app.close()


@contextmanager
def celery_redis(folder: Path) -> Iterator[Engine]:
    """Redis for both, tasks and results."""
    with redis(folder) as address, celery(folder, address, address) as engine:
        yield engine


@contextmanager
def celery_rabbit(folder: Path) -> Iterator[Engine]:
    """The RabbitMQ that ``tools/start-engines.sh`` starts, and a Redis for results."""
    port = os.environ.get("PACKTIVITY_TEST_RABBIT_PORT", "25675")
    await_port(int(port), 1)
    with redis(folder) as address, celery(folder, f"amqp://guest:guest@127.0.0.1:{port}//", address) as engine:
        yield engine


# --- ipyparallel -----------------------------------------------------------------------------------------------


def bare_ipyparallel() -> int:
    import subprocess

    return subprocess.run(["sh", "-c", "true"], check=True).returncode


@contextmanager
def ipyparallel(folder: Path) -> Iterator[Engine]:
    """A cluster with two engines, for bare tasks of a load-balanced view and for ours."""
    os.environ["IPYTHONDIR"] = str(folder / "ipython")
    (folder / "ipython").mkdir()
    from ipyparallel import Client

    from packtivity.backendutils import backend_from_string

    with program(str(BIN / "ipcluster"), "start", "-n", "2", "--log-level=WARN", log=folder / "ipcluster.log"):
        file = folder / "ipython" / "profile_default" / "security" / "ipcontroller-client.json"
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        with Client(str(file), timeout=30) as client:
            client.wait_for_engines(2, timeout=60, interactive=False)

            def run_bare(tasks: int) -> None:
                view = client.load_balanced_view()
                for result in [view.apply_async(bare_ipyparallel) for _ in range(tasks)]:
                    result.get()

            _, backend = backend_from_string("ipcluster")
            yield Engine(run_bare, backend)
            backend.engine.cluster.close()


SECTIONS = {
    "celery-redis": celery_redis,
    "celery-rabbit": celery_rabbit,
    "ipyparallel": ipyparallel,
}


def main() -> None:
    """Print everything that was asked for, each engine in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], default=[], help="engines (all)")
    parser.add_argument("--tasks", type=int, default=300, help="tasks in a round (300)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (5)")
    given = parser.parse_args()
    names = given.sections or list(SECTIONS)
    if len(names) > 1:
        for name in names:
            argv = [sys.executable, __file__, name, f"--tasks={given.tasks}", f"--rounds={given.rounds}"]
            subprocess.run(argv, check=False)
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["PACKTIVITY_STATE_DIR"] = str(folder / "state")
        os.environ["PACKTIVITY_LOGGING_STREAM_LEVEL"] = "CRITICAL"
        compare(names[0], stack.enter_context(SECTIONS[names[0]](folder)), given.tasks, given.rounds)


if __name__ == "__main__":
    main()
