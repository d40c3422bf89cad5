"""Celery whose Redis is killed, filled or emptied on purpose: it is the test's own."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from arena import BIN
from brokers import Rabbit, Redis
from celeries import PURE, SHELL, checkproxy, environment_of, state_in, submit
from waiting import until

from packtivity import record
from packtivity.errors import BackendError

pytest.importorskip("celery", reason="pip install 'packtivity[celery]'")
pytestmark = pytest.mark.engines


@pytest.fixture
def own(tmp_path):
    with Redis(tmp_path / "redis") as redis:
        yield redis


@pytest.fixture
def chosen(own):
    return environment_of(own.address, own.address)


@pytest.fixture
def client(own):
    import redis

    made = redis.Redis(port=own.port)
    yield made
    made.close()


def test_who_waits_and_who_works_outlive_a_killed_redis(own, chosen, client, workers, backend_for, tmp_path):
    backend = backend_for(chosen)
    workers(chosen).wait_ready()
    proxies = [submit(backend, tmp_path / str(n), 8) for n in range(2)]
    pure = backend.submit(PURE, {}, None, {"name": "pure"})
    (tmp_path / "proxy.json").write_text(json.dumps(pure.json()))
    argv = [BIN / "packtivity-checkproxy", tmp_path / "proxy.json", "--wait"]
    waiting = subprocess.Popen(argv, env={**os.environ, **chosen}, stdout=subprocess.PIPE, text=True)
    until(lambda: client.info("commandstats").get("cmdstat_mget", {}).get("calls", 0) > 5)  # it has begun to ask
    until((tmp_path / "0" / "busy").exists)
    own.kill()
    until(lambda: any((tmp_path / "0" / "_packtivity").glob("*.outcome.json")))  # it ends while Redis is away
    assert not backend.ready(pure)
    own.start()
    assert all(backend.result(proxy).json() for proxy in proxies)
    assert backend.result(pure).json() == {"a": 1}
    assert waiting.communicate(timeout=60)[0].startswith("ready: True\nsuccessful: True\n")
    attempts = [record.read_outcome(backend.record_of(proxy))["attempts"] for proxy in proxies]
    assert attempts == [1, 1]


def test_a_client_gives_up_when_its_patience_ends(own, chosen, backend_for):
    backend = backend_for({**chosen, "PACKTIVITY_CELERY_PATIENCE": "1"})
    proxy = backend.submit(PURE, {}, None, {"name": "pure"})
    own.kill()
    with pytest.raises(BackendError, match="result store"):
        backend.result(proxy)


def test_tasks_that_were_flushed_are_given_away_again(chosen, client, workers, backend_for, tmp_path):
    backend = backend_for(chosen)
    proxy = submit(backend, tmp_path / "t", 0)
    assert backend.status(proxy).status == "waiting"
    client.flushall()
    elsewhere = {**chosen, "PACKTIVITY_STATE_DIR": str(tmp_path / "somebody-else")}
    assert checkproxy(tmp_path, proxy, **elsewhere).returncode == 12
    until(lambda: backend.status(proxy).reason == "Celery's broker has been emptied")
    workers(chosen).wait_ready()
    until(lambda: backend.ready(proxy))
    assert backend.successful(proxy)
    assert checkproxy(tmp_path, proxy, **elsewhere).returncode == 0


def test_a_task_that_redis_lost_on_the_way_to_a_worker_is_submitted_again(
    chosen, client, workers, backend_for, tmp_path
):
    backend = backend_for(chosen)
    proxies = [submit(backend, tmp_path / str(n), 0) for n in range(3)]
    # as when a worker dies that has taken them from the queue and not yet said so
    assert client.delete(chosen["PACKTIVITY_CELERY_QUEUE"]) == 1
    workers(chosen).wait_ready()
    until(lambda: all(backend.ready(proxy) for proxy in proxies))
    assert all(backend.successful(proxy) for proxy in proxies)
    until(lambda: not client.keys("packtivity-*"))


def test_a_full_result_store_delays_a_task_and_does_not_fail_it(chosen, client, workers, backend_for, tmp_path):
    backend = backend_for(chosen)
    worker = workers(chosen).wait_ready()
    proxy = backend.submit(SHELL, {"cmd": "sleep 2"}, state_in(tmp_path / "t"), {"name": "task"})
    until(lambda: backend.status(proxy).status == "running")
    client.config_set("maxmemory", 1)
    with pytest.raises(BackendError, match="maxmemory"):
        submit(backend, tmp_path / "refused", 0)
    until(lambda: b"trying again" in worker.log.read_bytes())
    client.config_set("maxmemory", 0)
    assert backend.result(proxy).json() == {"a": 1}
    until(
        lambda: (
            client.get(f"celery-task-meta-{proxy.task_id}")
            and b"SUCCESS" in client.get(f"celery-task-meta-{proxy.task_id}")
        )
    )


def test_many_tasks_are_asked_for_in_one_question(own, chosen, client, backend_for):
    backend = backend_for(chosen)
    proxies = backend.batch_submit([(PURE, {}, None, {"name": "pure"})] * 300)
    client.config_resetstat()
    assert {answer.status for answer in backend.statuses(proxies)} == {"waiting"}
    asked = client.info("commandstats")
    assert asked["cmdstat_mget"]["calls"] == 1
    assert "cmdstat_get" not in asked


def test_a_worker_waits_for_a_missing_broker_and_begins_when_it_is_back(own, chosen, workers):
    own.kill()
    worker = workers({**chosen, "PACKTIVITY_CELERY_PATIENCE": "1"})
    until(lambda: b"Cannot connect to redis" in worker.log.read_bytes(), 60)
    assert worker.process.poll() is None
    own.start()
    worker.wait_ready()


@pytest.mark.soak  # RabbitMQ takes long to start
def test_a_task_that_rabbitmq_has_lost_patience_with_runs_once(own, workers, backend_for, tmp_path):
    with Rabbit(tmp_path / "rabbit", "{consumer_timeout, 3000}", "{channel_tick_interval, 1000}") as rabbit:
        chosen = environment_of(rabbit.address, own.address)
        backend = backend_for(chosen)
        worker = workers(chosen, processes=2).wait_ready()
        proxy = submit(backend, tmp_path / "t", 15)
        until(lambda: backend.ready(proxy), 60)
        assert backend.successful(proxy)
        assert record.read_outcome(backend.record_of(proxy))["attempts"] == 1
        assert not (tmp_path / "t" / "twice").exists()
        assert backend.result(submit(backend, tmp_path / "other", 0)).json()
        assert worker.log.read_text().count("] received") > 1
