"""Celery under fire: clients, workers, their processes and brokers are killed at random, and started again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from arena import BIN, settle, until
from brokers import Rabbit, Redis

from packtivity.backends.celery import make_app

if TYPE_CHECKING:
    import subprocess

pytest.importorskip("celery", reason="pip install 'packtivity[celery]'")

WORKER = [str(BIN / "celery"), "-A", "packtivity.asyncbackends.default_celeryapp", "worker", "-c", "2"]
WORKER += ["--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]


class Site:
    """Brokers, a worker and clients that submit waves of tasks, each of which may be killed at any time."""

    def __init__(self, here, brokers, wave):
        self.here, self.brokers, self.wave = here, brokers, wave
        self.worker: subprocess.Popen[bytes] | None = None
        self.client: subprocess.Popen[bytes] | None = None
        self.sent = 0

    def tend(self):
        """Start what does not run; only a worker that waits for its broker is left to wait."""
        for broker in self.brokers:
            broker.start()
        if self.worker is None or self.worker.poll() is not None:
            self.worker = self.here.start(*WORKER)

    def submit(self):
        """Have a client submit another wave unless one does."""
        if self.client is None or self.client.poll() is not None:
            self.client = self.here.submitter("celery", self.wave, self.sent)
            self.sent += self.wave

    def children(self):
        """Processes of the worker's pool, and of those of killed workers."""
        own = {process.pid for process in (self.worker, self.client) if process is not None}
        lines = self.here.processes()
        return [pid for pid, line in lines.items() if "celery" in line and pid not in own and parent(pid) in {*own, 1}]

    def targets(self):
        """What there is to kill: a name, how often it is chosen, and how it is killed."""
        found = [("pool process", 5, pid) for pid in self.children()]
        if self.is_submitting() and self.here.proxies().keys() & range(self.sent - self.wave, self.sent):
            found.append(("client", 2, self.client.pid))
        if self.worker is not None and self.worker.poll() is None and len(found) >= 2:
            found.append(("worker", 1, self.worker.pid))
        return [*found, *((broker.name, 1, broker) for broker in self.brokers if broker.is_up())]

    def kill_something(self):
        targets = self.targets()
        if not targets:
            return
        away = any(not broker.is_up() for broker in self.brokers)
        if away and self.here.random.random() < 0.7:  # RabbitMQ takes many seconds to come back
            return
        name, _, what = self.here.random.choices(targets, [weight for _, weight, _ in targets])[0]
        when = "while tasks are submitted" if self.is_submitting() else "while tasks run"
        if away:
            when = "while a broker is away"
        if isinstance(what, int):
            self.here.kill(what, name, when)
        else:
            what.kill()
            self.here.killed[name, when] += 1

    def is_submitting(self):
        return self.client is not None and self.client.poll() is None


def parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def batter(site, kills):
    """Kill until there were so many kills, and return what became of the tasks."""
    here = site.here
    deadline = time.monotonic() + 60 + kills * 8
    site.tend()
    site.submit()
    until(lambda: len(here.proxies()) > len(here.unfinished()), 60)
    while here.kills < kills:
        assert time.monotonic() < deadline, here.killed
        site.tend()
        if len(here.proxies()) < site.sent - site.wave / 2 or len(here.unfinished()) < site.wave:
            site.submit()
        time.sleep(here.random.uniform(0.1, 0.9))
        site.kill_something()
    site.tend()
    for broker in site.brokers:
        broker.wait_ready()
    if site.client is not None:
        site.client.wait(120)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("packtivity.backends.celery.default_celeryapp", make_app())
        told = settle(here, 240, site.tend)
    here.report("celery", told)
    return told


ENVIRONMENT = {"PACKTIVITY_CELERY_VISIBILITY_TIMEOUT": "4"}
SAMPLE, SOAK = "sample", pytest.mark.soak


@pytest.mark.parametrize(
    ("wave", "kills"), [pytest.param(20, 12, id=SAMPLE), pytest.param(25, 250, id="soak", marks=SOAK)]
)
def test_nothing_is_lost_when_redis_and_workers_are_killed(arena, tmp_path, wave, kills):
    with Redis(tmp_path / "redis") as redis:
        here = arena(5, PACKTIVITY_CELERY_REDIS_BROKER=redis.address, **ENVIRONMENT)
        told = batter(Site(here, [redis], wave), kills)
    assert sum(told.values()) == len(here.proxies()) >= wave / 2
    assert told["succeeded"] > told.get("failed", 0)


@pytest.mark.parametrize(
    ("wave", "kills"), [pytest.param(20, 4, id=SAMPLE), pytest.param(25, 80, id="soak", marks=SOAK)]
)
def test_nothing_is_lost_when_rabbitmq_redis_and_workers_are_killed(arena, tmp_path, wave, kills):
    with Rabbit(tmp_path / "rabbit") as rabbit, Redis(tmp_path / "redis") as redis:
        here = arena(
            6,
            PACKTIVITY_CELERY_REDIS_BROKER=rabbit.address,
            PACKTIVITY_CELERY_RESULTS=redis.address,
            **ENVIRONMENT,
        )
        told = batter(Site(here, [rabbit, redis], wave), kills)
    assert sum(told.values()) == len(here.proxies()) >= wave / 2
    assert told["succeeded"] > told.get("failed", 0)
