"""Brokers of a test's own, on ports of their own, so that they can be killed and started again with what they kept."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from arena import free_port
from needs import need_engine

RABBIT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Broker:
    """A program that listens on a port.

    :ivar address: for Celery.
    """

    name, address = "", ""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> tuple[list[str], dict[str, str]]:
        raise NotImplementedError

    def start(self) -> None:
        """Start it unless it runs; :meth:`wait_ready` says when it can be used."""
        if self.process is not None and self.process.poll() is None:
            return
        argv, environment = self.command()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                cwd=self.folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def is_up(self) -> bool:
        """Return whether it listens."""
        return listens(self.port)

    def wait_ready(self, seconds: float = 90.0) -> None:
        deadline = time.monotonic() + seconds
        while not listens(self.port):
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            self.start()
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it and everything it started in its session, at once."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            while listens(self.port):  # the last of its processes is still being cleared away
                time.sleep(0.01)

    def __enter__(self) -> Any:
        self.start()
        self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Redis(Broker):
    """A Redis that has written down what it has acknowledged."""

    name = "redis"

    def __init__(self, folder: Path, *options: str) -> None:
        need_engine(shutil.which("redis-server"), "redis-server")
        super().__init__(folder)
        self.address, self._options = f"redis://127.0.0.1:{self.port}/0", options

    def command(self) -> tuple[list[str], dict[str, str]]:
        argv = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
        return [*argv, "--appendfsync", "always", "--dir", str(self.folder), *self._options], {}


class Rabbit(Broker):
    """A RabbitMQ; killed are all its processes, so also the Erlang one."""

    name = "rabbit"

    def __init__(self, folder: Path, *options: str) -> None:
        need_engine(RABBIT.exists(), "RabbitMQ")
        super().__init__(folder)
        self.address, self._options = f"amqp://guest:guest@127.0.0.1:{self.port}//", options
        self._dist, self._epmd = free_port(), free_port()
        (folder / "plugins").write_text("[].\n", encoding="ascii")
        (folder / "rabbitmq.conf").write_text("loopback_users = none\n", encoding="ascii")
        (folder / "advanced.config").write_text(f"[{{rabbit, [{', '.join(options)}]}}].\n", encoding="ascii")

    def command(self) -> tuple[list[str], dict[str, str]]:
        home, loopback = str(self.folder), "-kernel inet_dist_use_interface {127,0,0,1}"
        return [str(RABBIT)], {
            "HOME": home,
            "RABBITMQ_NODENAME": f"packtivity{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd),
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_LOG_BASE": f"{home}/log.d",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": loopback,
        }

    def __exit__(self, *_: object) -> None:
        self.kill()
        argv = ["epmd", "-port", str(self._epmd), "-kill"]
        subprocess.run(argv, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
