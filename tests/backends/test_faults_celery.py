"""Celery under fire: clients, workers, their processes and brokers are killed at random, and started again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from arena import BIN, settle
from brokers import Rabbit, Redis
from waiting import until

from packtivity.backends.engines.celery import make_app

if TYPE_CHECKING:
    import subprocess

pytest.importorskip("celery", reason="pip install 'packtivity[celery]'")
pytestmark = pytest.mark.engines

WORKER = [str(BIN / "celery"), "-A", "packtivity.asyncbackends.default_celeryapp", "worker", "-c", "2"]
WORKER += ["--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]


KINDS = {"pool process": 5, "client": 4, "worker": 2, "redis": 2, "rabbit": 1}
"""What is killed, and how often."""


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
        """What can be killed now, by what it is."""
        wave, children = range(self.sent - self.wave, self.sent), self.children()
        return {
            "pool process": children,
            "client": [self.client.pid] if self.is_submitting() and self.here.proxies().keys() & wave else [],
            "worker": [self.worker.pid] if self.worker is not None and self.worker.poll() is None and children else [],
            **{broker.name: [broker] if broker.is_up() else [] for broker in self.brokers},
        }

    def kill_something(self):
        """Kill something of a kind chosen at random, if there is one now."""
        kind = self.here.random.choices([*KINDS], KINDS.values())[0]
        targets = self.targets()
        if not targets.get(kind):
            return
        when = "while tasks are submitted" if self.is_submitting() else "while tasks run"
        if any(not broker.is_up() for broker in self.brokers):
            when = "while a broker is away"
        victim = self.here.random.choice(targets[kind])
        if isinstance(victim, int):
            self.here.kill(victim, kind, when)
        else:
            victim.kill()
            self.here.killed[kind, when] += 1

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
        if len(here.unfinished()) < 2 * site.wave:
            site.submit()
        time.sleep(here.random.uniform(0.05, 0.6))
        site.kill_something()
    site.tend()
    for broker in site.brokers:
        broker.wait_ready()
    if site.client is not None:
        site.client.wait(120)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("packtivity.backends.engines.celery.default_celeryapp", make_app())
        told = settle(here, 240, site.tend)
    here.report("celery", told)
    return told


ENVIRONMENT = {"PACKTIVITY_CELERY_VISIBILITY_TIMEOUT": "4"}
SAMPLE, SOAK = "sample", pytest.mark.soak


@pytest.mark.parametrize(
    ("wave", "kills"), [pytest.param(20, 12, id=SAMPLE), pytest.param(40, 250, id="soak", marks=SOAK)]
)
def test_nothing_is_lost_when_redis_and_workers_are_killed(arena, tmp_path, wave, kills):
    with Redis(tmp_path / "redis") as redis:
        here = arena(5, PACKTIVITY_CELERY_REDIS_BROKER=redis.address, **ENVIRONMENT)
        told = batter(Site(here, [redis], wave), kills)
    assert sum(told.values()) == len(here.proxies()) >= wave / 2
    assert told["succeeded"] > told.get("failed", 0)


@pytest.mark.parametrize(
    ("wave", "kills"), [pytest.param(20, 4, id=SAMPLE), pytest.param(40, 120, id="soak", marks=SOAK)]
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
