"""A cluster of ipyparallel to kill processes in, and somebody who starts again what has died."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from arena import BIN, Arena
from waiting import until

from packtivity.backendutils import load_proxy
from packtivity.errors import PacktivityError

if TYPE_CHECKING:
    from pathlib import Path

LEVEL = "PACKTIVITY_LOGGING_STREAM_LEVEL"
KINDS = (
    ("client", "backend_from_string"),
    ("engine", "bin/ipengine"),
    ("engine", "bin/ipengine"),
    ("nanny", "engine.nanny"),
    ("controller", "bin/ipcontroller"),
    ("scheduler", "bin/ipcontroller"),
)


class Farm(Arena):
    """A controller and two engines in a folder, and somebody who starts again what has died."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.ipython = folder / "ipython"
        self.ipython.mkdir()
        super().__init__(folder, seed, IPYTHONDIR=str(self.ipython))
        self.controller: subprocess.Popen[bytes] | None = None
        self.parts, self.began = 0, 0.0
        self.engines: list[subprocess.Popen[bytes]] = []

    @property
    def settings(self) -> dict[str, str]:
        """What somebody else needs to find the cluster."""
        return {name: self.environment[name] for name in ("IPYTHONDIR", "PACKTIVITY_STATE_DIR", LEVEL)}

    def command(self, *argv: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / argv[0]), *argv[1:]],
            cwd=self.root,
            env={**os.environ, **self.settings, **extra},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )

    @property
    def connection(self) -> Path:
        """The file by which clients find the controller."""
        return self.ipython / "profile_default" / "security" / "ipcontroller-client.json"

    # --- what runs ---

    def is_whole(self) -> bool:
        """Whether nothing of the controller is missing."""
        if self.controller is None or self.controller.poll() is not None:
            return False
        parts = len(self.having("ipcontroller"))
        self.parts = max(self.parts, parts)
        return parts == self.parts or time.monotonic() - self.began < 10

    def tend(self, *, restore: bool | None = None, engines: int = 2) -> None:
        """Start again what is not there, as whoever runs the cluster would."""
        if not self.is_whole():
            if restore is None:
                restore = self.controller is None or self.random.random() < 0.5
            self.stop_controller()
            self.began = time.monotonic()
            self.controller = self.start(
                str(BIN / "ipcontroller"), "--restore" if restore else "--reuse", "--HeartMonitor.period=1000"
            )
            if not restore:  # the new controller does not know them
                self.stop_engines()
            until(lambda: self.port_listens() or self.controller.poll() is not None, 60)
            time.sleep(0.5)
        self.engines = [engine for engine in self.engines if engine.poll() is None]
        while len(self.engines) < engines:
            self.engines.append(self.start(str(BIN / "ipengine")))

    def port_listens(self) -> bool:
        try:
            ports = json.loads(self.connection.read_text())
        except (OSError, ValueError):
            return False
        with socket.socket() as one, socket.socket() as two:
            here = [
                each.connect_ex(("127.0.0.1", ports[name])) for each, name in ((one, "registration"), (two, "task"))
            ]
        return here == [0, 0]

    def ready(self, engines: int = 2) -> None:
        from ipyparallel import Client

        self.tend(restore=False)
        with Client(str(self.connection), timeout=30) as client:
            client.wait_for_engines(engines, timeout=60, interactive=False)

    def drop_strangers(self) -> None:
        """End engines that the controller does not know: it listened to them before it was killed, or never did."""
        from ipyparallel import Client

        if not self.is_whole():
            return
        with suppress(TimeoutError), Client(str(self.connection), timeout=5) as client:
            asked = [client[number].apply_async(os.getpid) for number in client.ids]
            deadline = time.monotonic() + 6
            while not all(each.ready() for each in asked) and time.monotonic() < deadline:
                time.sleep(0.1)
            known = {each.get() for each in asked if each.ready() and each.successful()}
            for engine in self.engines:
                if engine.pid not in known:
                    engine.kill()

    def stop_controller(self) -> None:
        for pid in self.having("ipcontroller"):
            end(pid)
        if self.controller is not None:
            self.controller.wait()
        # A process that ends has no environment any more while its ports are still open.
        until(lambda: not self.having("ipcontroller") and not self.port_listens())

    def stop_engines(self) -> None:
        for engine in self.engines:
            engine.kill()
            engine.wait()
        self.engines.clear()

    def kill_all(self) -> None:
        """End everything at once, as a power failure would."""
        super().kill_all()
        self.engines.clear()
        self.controller = None

    def kill_any(self) -> None:
        """Kill a process of one of the kinds, if there is one."""
        kind, word = self.random.choice(KINDS)
        victims = self.having(word)
        if kind == "controller":
            victims = [self.controller.pid] if self.controller is not None else []
        elif kind == "scheduler":
            victims = [pid for pid in victims if self.controller is not None and pid != self.controller.pid]
        if victims:
            self.kill(self.random.choice(victims), kind)

    # --- what became of it ---

    def about(self, hanging) -> str:
        """Everything that may tell why tasks are not over."""
        proxy, backend = next(iter(hanging.values()))
        files = list((self.root / str(next(iter(hanging)))).rglob("*"))
        cluster, queues = vars(backend.engine.cluster), backend.client.queue_status(verbose=True)
        return f"tasks {list(hanging)} hang: {vars(proxy)} {files} {cluster} {queues} {self.processes()}"

    def settle(self, seconds: float = 120.0) -> Counter[str]:
        """Ask until every task is over, and judge each; how many there were of each kind."""
        told: Counter[str] = Counter()
        waiting = {number: load_proxy(document) for number, document in self.proxies().items()}
        deadline, check = time.monotonic() + seconds, time.monotonic() + 20
        while waiting:
            self.tend()
            if time.monotonic() > check:
                self.drop_strangers()
                check = time.monotonic() + 20
            backend = next(iter(waiting.values()))[1]
            for number, answer in zip(
                list(waiting), backend.statuses([proxy for proxy, _ in waiting.values()]), strict=True
            ):
                if isinstance(answer, PacktivityError):
                    assert "no task" not in str(answer), answer  # all but that may be said while it is started again
                    continue
                if not answer.is_over:
                    continue
                self.judge(number, answer.status, answer.error)
                told[answer.status] += 1
                del waiting[number]
            assert time.monotonic() < deadline, self.about(waiting)
            time.sleep(0.1)
        return told


def end(pid: int) -> None:
    """Kill a process, which may have ended already."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
