"""What Celery's users rely on: queues, cancelling, expiry, who can ask, lost workers, with real brokers and workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from types import SimpleNamespace

import pytest
from arena import BIN, free_port
from celeries import PURE, SHELL, checkproxy, environment_of, state_in, submit
from waiting import until

from packtivity import record
from packtivity.backendutils import load_proxy
from packtivity.errors import BackendError, ProxyError
from packtivity.runtimes.cancellation import CancelFile

pytest.importorskip("celery", reason="pip install 'packtivity[celery]'")
from celery import Celery
from celery.exceptions import NotRegistered
from kombu.asynchronous.timer import Timer

from packtivity.backends.engines.celery import SignsOfLife, send


@pytest.fixture(params=["redis", "rabbit"])
def brokered(request, redis):
    """Settings for each broker, and results in Redis."""
    address = f"{redis}/5" if request.param == "redis" else request.getfixturevalue("rabbit")
    return environment_of(address, f"{redis}/6")


def test_the_task_of_a_lost_worker_runs_again_within_seconds(brokered, workers, backend_for, tmp_path):
    backend = backend_for(brokered)
    first = workers(brokered).wait_ready()
    slow_once = {"cmd": f"if test -e {tmp_path}/began; then exit; fi; touch {tmp_path}/began; sleep 60"}
    proxy = backend.submit(SHELL, slow_once, state_in(tmp_path / "t"), {"name": "task"})
    until((tmp_path / "began").exists)
    workers(brokered).wait_ready()
    first.kill()
    killed = time.monotonic()
    until(lambda: backend.ready(proxy), 60)
    assert backend.successful(proxy)
    assert record.read_outcome(backend.record_of(proxy))["attempts"] == 2
    assert time.monotonic() - killed < 20  # Redis alone would take a day


def test_a_long_task_is_not_delivered_again_while_its_worker_lives(redis, workers, backend_for, tmp_path):
    chosen = environment_of(f"{redis}/5", f"{redis}/6", PACKTIVITY_CELERY_VISIBILITY_TIMEOUT="1")
    backend = backend_for(chosen)
    worker = workers(chosen, processes=2).wait_ready()
    proxy = submit(backend, tmp_path / "t", 5)
    until(lambda: backend.ready(proxy), 60)
    assert backend.successful(proxy)
    assert worker.log.read_text().count("] received") == 1


def test_a_task_whose_worker_seems_dead_and_is_not_runs_once(redis, workers, backend_for, tmp_path):
    chosen = environment_of(f"{redis}/5", f"{redis}/6", PACKTIVITY_CELERY_VISIBILITY_TIMEOUT="1")
    backend = backend_for(chosen)
    first = workers(chosen).wait_ready()
    proxy = submit(backend, tmp_path / "t", 10)
    until((tmp_path / "t" / "busy").exists)
    first.process.send_signal(signal.SIGSTOP)  # the parent, which says that they are there; its pool process goes on
    second = workers(chosen).wait_ready()
    until(lambda: b"] received" in second.log.read_bytes(), 60)
    assert backend.result(submit(backend, tmp_path / "other", 0)).json()  # is not held up for ever
    assert backend.status(proxy).status == "running"
    until(lambda: backend.ready(proxy), 60)
    assert backend.successful(proxy)
    assert record.read_outcome(backend.record_of(proxy))["attempts"] == 1
    assert not (tmp_path / "t" / "twice").exists()
    first.process.send_signal(signal.SIGCONT)


def test_a_waiting_task_that_is_cancelled_never_begins(brokered, workers, backend_for, tmp_path):
    backend = backend_for(brokered)
    cancelled, other = submit(backend, tmp_path / "cancelled", 0), submit(backend, tmp_path / "other", 0)
    backend.cancel(cancelled)
    assert backend.status(cancelled).status == "cancelled"
    assert backend.status(other).status == "waiting"
    workers(brokered).wait_ready()
    until(lambda: backend.ready(other))
    assert backend.status(cancelled).status == "cancelled"
    assert not (tmp_path / "cancelled" / "out").exists()


def test_a_running_task_that_is_cancelled_ends_and_its_worker_goes_on(brokered, workers, backend_for, tmp_path):
    backend = backend_for(brokered)
    worker = workers(brokered).wait_ready()
    proxy = submit(backend, tmp_path / "t", 60)
    until((tmp_path / "t" / "busy").exists)
    assert backend.status(proxy).status == "running"
    backend.cancel(proxy)
    until(lambda: backend.ready(proxy))
    assert record.read_outcome(backend.record_of(proxy))["status"] == "cancelled"
    with pytest.raises(Exception, match="cancelled"):
        backend.result(proxy)
    other = submit(backend, tmp_path / "other", 0)
    backend.result(other)
    assert "WorkerLost" not in worker.log.read_text()


def test_a_task_in_a_thread_can_be_cancelled(redis, workers, backend_for, tmp_path):
    chosen = environment_of(f"{redis}/5", f"{redis}/6")
    backend = backend_for(chosen)
    workers(chosen, "-P", "threads").wait_ready()
    proxy = submit(backend, tmp_path / "t", 60)
    until((tmp_path / "t" / "busy").exists)
    backend.cancel(proxy)
    until(lambda: backend.ready(proxy))
    assert backend.status(proxy).status == "cancelled"


def test_an_id_that_was_never_submitted_is_unknown(brokered, backend_for, tmp_path):
    backend = backend_for(brokered)
    proxy, _ = load_proxy({"proxyname": "CeleryProxy", "proxydetails": {"task_id": "never-submitted"}})
    with pytest.raises(ProxyError, match="no Celery task never-submitted is known"):
        backend.status(proxy)
    said = checkproxy(tmp_path, proxy, **brokered)
    assert (said.returncode, said.stdout) == (12, "unknown: True\n")


def test_a_task_goes_to_the_queue_that_was_chosen(redis, workers, backend_for, tmp_path):
    chosen = environment_of(f"{redis}/5", f"{redis}/6")
    workers(chosen, "-Q", f"{chosen['PACKTIVITY_CELERY_QUEUE']}-big").wait_ready()
    backend = backend_for(chosen)
    waiting = submit(backend, tmp_path / "waiting", 0)
    backend = backend_for(chosen, queue=f"{chosen['PACKTIVITY_CELERY_QUEUE']}-big")
    assert backend.result(submit(backend, tmp_path / "t", 0)).json()
    assert backend.status(waiting).status == "waiting"


def test_results_expire_when_told_to_and_waiting_tasks_do_not(redis, workers, backend_for, tmp_path):
    chosen = environment_of(f"{redis}/5", f"{redis}/6", PACKTIVITY_CELERY_RESULT_EXPIRES="1")
    backend = backend_for(chosen)
    proxies = backend.batch_submit([(PURE, {}, None, {"name": "pure"})] * 2)
    time.sleep(1.5)
    elsewhere = {**chosen, "PACKTIVITY_STATE_DIR": str(tmp_path / "somebody-else")}
    assert checkproxy(tmp_path, proxies[0], **elsewhere).stdout == "ready: False\n"
    workers(chosen, processes=2).wait_ready()
    for proxy in proxies:
        backend.result(proxy)
    said = checkproxy(tmp_path, proxies[0], "--format", "json", **{**elsewhere, "PACKTIVITY_RECORD": "false"})
    assert json.loads(said.stdout)[0]["status"] in ("succeeded", "unknown")  # a slow machine takes the second
    time.sleep(1.5)
    assert checkproxy(tmp_path, proxies[0], **elsewhere).returncode == 12


def test_answers_by_rpc_reach_who_submitted_and_whoever_can_read_the_record(rabbit, workers, backend_for, tmp_path):
    chosen = environment_of(rabbit, "rpc://")
    backend = backend_for(chosen)
    workers(chosen).wait_ready()
    pure = backend.submit(PURE, {}, None, {"name": "pure"})
    proxy = submit(backend, tmp_path / "t", 0)
    assert backend.result(pure).json() == {"a": 1}
    assert backend.result(proxy).json()
    assert checkproxy(tmp_path, proxy, **chosen).returncode == 0
    said = checkproxy(tmp_path, proxy, **{**chosen, "PACKTIVITY_STATE_DIR": str(tmp_path / "somebody-else")})
    assert said.returncode == 12
    assert "rpc://" in said.stderr


def test_log_files_are_named_after_the_task_when_told_to(redis, workers, backend_for, tmp_path):
    chosen = environment_of(f"{redis}/5", f"{redis}/6", PACKTIVITY_CELERY_GLOBAL_NAMETAG="true")
    backend = backend_for(chosen)
    workers(chosen).wait_ready()
    proxy = submit(backend, tmp_path / "t", 0)
    backend.result(proxy)
    assert (tmp_path / "t" / "_packtivity" / f"{proxy.task_id}.run.log").exists()
    assert backend.record_of(proxy)
    assert record.read_outcome(backend.record_of(proxy))["status"] == "succeeded"


def test_a_celery_task_does_not_wait_for_another_unless_told_to(redis, backend_for, tmp_path, monkeypatch):
    from celery._state import _set_task_join_will_block
    from celery.result import allow_join_result

    backend = backend_for(environment_of(f"{redis}/5", f"{redis}/6"))
    proxy = backend.submit(PURE, {}, None, {"name": "pure"})
    _set_task_join_will_block(True)
    try:
        with pytest.raises(BackendError, match="must not wait"):
            backend.result(proxy)
        with allow_join_result():
            assert not backend.ready(proxy)
    finally:
        _set_task_join_will_block(False)


@pytest.mark.parametrize(
    ("broker", "results"),
    [
        ("redis://:s3cret@127.0.0.1:{closed}/0", ""),
        ("amqp://guest:s3cret@127.0.0.1:{closed}//", "redis"),
        ("amqp://guest:s3cret@127.0.0.1:{closed}//", "rpc://"),
        ("redis://:s3cret@no-such-host.invalid:6379/0", ""),
        ("nonsense://guest:s3cret@127.0.0.1/", "redis"),
    ],
)
def test_a_broker_that_is_not_there_is_told_in_seconds_and_without_its_password(redis, tmp_path, broker, results):
    (tmp_path / "spec.yml").write_text(json.dumps(SHELL))
    chosen = {
        "PACKTIVITY_CELERY_REDIS_BROKER": broker.format(closed=free_port()),
        **({"PACKTIVITY_CELERY_RESULTS": f"{redis}/6" if results == "redis" else results} if results else {}),
    }
    argv = [BIN / "packtivity-run", "spec.yml", "-p", "cmd=true", "-w", "out", "-b", "celery", "--async"]
    said = subprocess.run(
        argv, cwd=tmp_path, env={**os.environ, **chosen}, capture_output=True, text=True, timeout=60, check=False
    )
    assert said.returncode == 11
    assert "PACKTIVITY_CELERY_REDIS_BROKER" in said.stderr
    assert "s3cret" not in said.stderr + said.stdout
    assert "Traceback" not in said.stderr


def test_cancelling_what_has_just_ended_writes_to_nobody_else_s_descriptor() -> None:
    delivery = CancelFile(None, 2.0)
    delivery.close()
    reading, writing = os.pipe()
    try:
        delivery.cancel()
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):
            os.read(reading, 1)
    finally:
        os.close(reading)
        os.close(writing)


def test_a_running_delivery_hears_that_it_is_cancelled() -> None:
    with CancelFile(None, 2.0) as delivery:
        for _ in range(2):
            delivery.cancel()
        assert (os.read(delivery.fileno(), 9), delivery.cancelled) == (b"", True)


def test_a_delivery_waits_two_seconds_for_another_run_and_one_that_is_cancelled_does_not() -> None:
    with CancelFile(None, 2.0) as delivery:
        assert (delivery.gives_up(1.9), delivery.why()) == (False, None)
        assert (delivery.gives_up(2.1), delivery.why()) == (True, "abandoned")
        delivery.cancel()
        assert (delivery.gives_up(2.1), delivery.why()) == (True, "cancelled")
    with CancelFile(None) as patient:
        assert not patient.gives_up(1e9)


def test_a_task_whose_queue_was_emptied_is_given_away_again(brokered, workers, backend_for, tmp_path):
    backend = backend_for(brokered)
    proxy = submit(backend, tmp_path / "t", 0)
    with backend.app.connection_for_write() as connection, connection.channel() as channel:
        assert channel.queue_purge(brokered["PACKTIVITY_CELERY_QUEUE"]) == 1
    workers(brokered).wait_ready()
    until(lambda: backend.ready(proxy))
    assert backend.successful(proxy)
    assert record.read_outcome(backend.record_of(proxy))["attempts"] == 1


def test_a_task_that_waits_behind_a_long_one_is_given_away_once(brokered, workers, backend_for, tmp_path):
    backend = backend_for({**brokered, "PACKTIVITY_CELERY_VISIBILITY_TIMEOUT": "1"})
    workers({**brokered, "PACKTIVITY_CELERY_VISIBILITY_TIMEOUT": "1"}).wait_ready()
    first, second = submit(backend, tmp_path / "first", 8), submit(backend, tmp_path / "second", 0)
    until((tmp_path / "first" / "busy").exists)
    until(lambda: "tasks in the queue" in backend.status(second).reason)
    until(lambda: {answer.is_over for answer in backend.statuses([first, second])} == {True})
    assert backend.successful(first)
    assert backend.successful(second)
    assert [each.known.submission.deliveries for each in (first, second)] == [1, 1]


def test_a_task_of_another_broker_is_not_given_to_this_one(redis, backend_for, tmp_path):
    chosen = environment_of(f"{redis}/5", f"{redis}/6", PACKTIVITY_CELERY_VISIBILITY_TIMEOUT="1")
    backend = backend_for(chosen)
    proxy = submit(backend, tmp_path / "t", 0)
    other = backend_for({**chosen, "PACKTIVITY_CELERY_REDIS_BROKER": f"{redis}/8"})
    other.app.backend.client.delete(f"celery-task-meta-{proxy.task_id}")
    stranger, _ = load_proxy(proxy.json())
    status = other.status(stranger)
    assert (status.status, f"given to the broker {redis}/5" in status.reason) == ("unclear", True)


def test_a_task_that_celery_calls_failed_because_its_workers_do_not_know_it_says_so(redis, backend_for, tmp_path):
    backend = backend_for(environment_of(f"{redis}/5", f"{redis}/6"))
    proxy = submit(backend, tmp_path / "t", 0)
    backend.app.backend.store_result(proxy.task_id, NotRegistered("nobody"), "FAILURE")
    assert backend.status(proxy).status == "lost"
    until(lambda: backend.ready(proxy))
    said = ("EnvironmentUnavailable", "the engine does not run the task: Celery: FAILURE NotRegistered")
    assert backend.fail_info(proxy) == said


def test_a_worker_says_that_it_lives_once_at_a_time_however_often_it_connects() -> None:
    app = Celery("alive", broker="memory://", backend="cache+memory://")
    consumer = SimpleNamespace(timer=Timer(), task_consumer=None, app=app, connection_errors=())
    step = SignsOfLife(consumer)
    for _ in range(3):
        step.start(consumer)
        step.stop(consumer)
    assert [entry.entry.canceled for entry in consumer.timer.queue] == [True, True, False]
    step._tick(consumer)  # between two connections


def test_what_a_client_of_the_version_before_has_sent_is_run(redis, workers, backend_for, tmp_path):
    chosen = environment_of(f"{redis}/5", f"{redis}/6")
    backend = backend_for(chosen)
    document = backend.document(SHELL, {"cmd": "true"}, state_in(tmp_path / "t"), {"name": "task"})
    backend.engine.store.mark({document["id"]: None})
    send(backend.app, document, document["id"], chosen["PACKTIVITY_CELERY_QUEUE"])
    workers(chosen).wait_ready()
    proxy, _ = load_proxy({"proxyname": "CeleryProxy", "proxydetails": {"task_id": document["id"]}})
    assert backend.result(proxy).json() == {"a": 1}
