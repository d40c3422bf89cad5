"""What Celery's users rely on, with workers and brokers that are killed, filled and emptied on purpose."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress

import pytest
from arena import BIN, TASK, free_port, until
from brokers import Redis

from packtivity import record
from packtivity.backendutils import load_proxy
from packtivity.errors import BackendError, ProxyError
from packtivity.statecontexts import LocalFSState

pytest.importorskip("celery", reason="pip install 'packtivity[celery]'")

PURE = {"process": None, "environment": None, "publisher": {"publisher_type": "constant-pub", "publish": {"a": 1}}}
SHELL = {
    "process": {"process_type": "string-interpolated-cmd", "cmd": "{cmd}"},
    "environment": {"environment_type": "localproc-env"},
    "publisher": {"publisher_type": "constant-pub", "publish": {"a": 1}},
}


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
        from packtivity.backends.celery import CeleryBackend, make_app

        return CeleryBackend(make_app(), **options)  # its connections are those of every application here

    return make


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
    assert backend.ask(proxy)["status"] == "running"
    until(lambda: backend.ready(proxy), 60)
    assert backend.successful(proxy)
    assert record.read_outcome(backend.record_of(proxy))["attempts"] == 1
    assert not (tmp_path / "t" / "twice").exists()
    first.process.send_signal(signal.SIGCONT)


def test_a_waiting_task_that_is_cancelled_never_begins(brokered, workers, backend_for, tmp_path):
    backend = backend_for(brokered)
    cancelled, other = submit(backend, tmp_path / "cancelled", 0), submit(backend, tmp_path / "other", 0)
    backend.cancel(cancelled)
    assert backend.ask(cancelled)["status"] == "cancelled"
    assert backend.ask(other)["status"] == "waiting"
    workers(brokered).wait_ready()
    until(lambda: backend.ready(other))
    assert backend.ask(cancelled)["status"] == "cancelled"
    assert not (tmp_path / "cancelled" / "out").exists()


def test_a_running_task_that_is_cancelled_ends_and_its_worker_goes_on(brokered, workers, backend_for, tmp_path):
    backend = backend_for(brokered)
    worker = workers(brokered).wait_ready()
    proxy = submit(backend, tmp_path / "t", 60)
    until((tmp_path / "t" / "busy").exists)
    assert backend.ask(proxy)["status"] == "running"
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
    assert backend.ask(proxy)["status"] == "cancelled"


def test_an_id_that_was_never_submitted_is_unknown(brokered, backend_for, tmp_path):
    backend = backend_for(brokered)
    proxy, _ = load_proxy({"proxyname": "CeleryProxy", "proxydetails": {"task_id": "never-submitted"}})
    with pytest.raises(ProxyError, match="no Celery task never-submitted is known"):
        backend.ask(proxy)
    said = checkproxy(tmp_path, proxy, **brokered)
    assert (said.returncode, said.stdout) == (12, "unknown: True\n")


def test_a_task_goes_to_the_queue_that_was_chosen(redis, workers, backend_for, tmp_path):
    chosen = environment_of(f"{redis}/5", f"{redis}/6")
    workers(chosen, "-Q", f"{chosen['PACKTIVITY_CELERY_QUEUE']}-big").wait_ready()
    backend = backend_for(chosen)
    waiting = submit(backend, tmp_path / "waiting", 0)
    backend = backend_for(chosen, queue=f"{chosen['PACKTIVITY_CELERY_QUEUE']}-big")
    assert backend.result(submit(backend, tmp_path / "t", 0)).json()
    assert backend.ask(waiting)["status"] == "waiting"


def test_results_expire_when_told_to_and_waiting_tasks_do_not(redis, workers, backend_for, tmp_path):
    chosen = environment_of(f"{redis}/5", f"{redis}/6", PACKTIVITY_CELERY_RESULT_EXPIRES="2")
    backend = backend_for(chosen)
    proxies = backend.batch_submit([(PURE, {}, None, {"name": "pure"})] * 2)
    time.sleep(3)
    elsewhere = {**chosen, "PACKTIVITY_STATE_DIR": str(tmp_path / "somebody-else")}
    assert checkproxy(tmp_path, proxies[0], **elsewhere).stdout == "ready: False\n"
    workers(chosen, processes=2).wait_ready()
    for proxy in proxies:
        backend.result(proxy)
    said = checkproxy(tmp_path, proxies[0], "--format", "json", **{**elsewhere, "PACKTIVITY_RECORD": "false"})
    assert json.loads(said.stdout)[0]["status"] in ("succeeded", "unknown")  # a slow machine takes the two seconds
    time.sleep(3)
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


class TestWithARedisOfOurOwn:
    """What is done to the broker would harm others."""

    @pytest.fixture
    def own(self, tmp_path):
        with Redis(tmp_path / "redis") as redis:
            yield redis

    @pytest.fixture
    def chosen(self, own):
        return environment_of(own.address, own.address)

    @pytest.fixture
    def client(self, own):
        import redis

        made = redis.Redis(port=own.port)
        yield made
        made.close()

    def test_who_waits_and_who_works_outlive_a_killed_redis(self, own, chosen, client, workers, backend_for, tmp_path):
        backend = backend_for(chosen)
        workers(chosen).wait_ready()
        proxies = [submit(backend, tmp_path / str(n), 2) for n in range(2)]
        pure = backend.submit(PURE, {}, None, {"name": "pure"})
        (tmp_path / "proxy.json").write_text(json.dumps(pure.json()))
        argv = [BIN / "packtivity-checkproxy", tmp_path / "proxy.json", "--wait"]
        waiting = subprocess.Popen(argv, env={**os.environ, **chosen}, stdout=subprocess.PIPE, text=True)
        until(lambda: client.info("commandstats").get("cmdstat_mget", {}).get("calls", 0) > 10)  # it has begun to ask
        until((tmp_path / "0" / "busy").exists)
        own.kill()
        time.sleep(3)  # the first task ends meanwhile
        assert not backend.ready(pure)
        own.start()
        assert all(backend.result(proxy).json() for proxy in proxies)
        assert backend.result(pure).json() == {"a": 1}
        assert waiting.communicate(timeout=60)[0].startswith("ready: True\nsuccessful: True\n")
        attempts = [record.read_outcome(backend.record_of(proxy))["attempts"] for proxy in proxies]
        assert attempts == [1, 1]

    def test_a_client_gives_up_when_its_patience_ends(self, own, chosen, backend_for):
        backend = backend_for({**chosen, "PACKTIVITY_CELERY_PATIENCE": "1"})
        proxy = backend.submit(PURE, {}, None, {"name": "pure"})
        own.kill()
        with pytest.raises(BackendError, match="result store"):
            backend.result(proxy)

    def test_tasks_that_were_flushed_are_called_lost(self, chosen, client, backend_for, tmp_path):
        backend = backend_for(chosen)
        proxy = submit(backend, tmp_path / "t", 0)
        assert backend.ask(proxy)["status"] == "waiting"
        client.flushall()
        with pytest.raises(ProxyError, match="lost all trace"):
            backend.ask(proxy)
        assert checkproxy(tmp_path, proxy, **chosen).returncode == 12

    def test_a_task_that_redis_lost_on_the_way_to_a_worker_is_submitted_again(
        self, chosen, client, workers, backend_for, tmp_path
    ):
        backend = backend_for(chosen)
        proxies = [submit(backend, tmp_path / str(n), 0) for n in range(3)]
        # as when a worker dies that has taken them from the queue and not yet said so
        assert client.delete(chosen["PACKTIVITY_CELERY_QUEUE"]) == 1
        workers(chosen).wait_ready()
        until(lambda: all(backend.ready(proxy) for proxy in proxies))
        assert all(backend.successful(proxy) for proxy in proxies)
        until(lambda: not client.exists("packtivity-documents"))

    def test_a_full_result_store_delays_a_task_and_does_not_fail_it(
        self, chosen, client, workers, backend_for, tmp_path
    ):
        backend = backend_for(chosen)
        worker = workers(chosen).wait_ready()
        proxy = backend.submit(SHELL, {"cmd": "sleep 2"}, state_in(tmp_path / "t"), {"name": "task"})
        until(lambda: backend.ask(proxy)["status"] == "running")
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

    def test_many_tasks_are_asked_for_in_one_question(self, own, chosen, client, backend_for):
        backend = backend_for(chosen)
        proxies = backend.batch_submit([(PURE, {}, None, {"name": "pure"})] * 300)
        client.config_resetstat()
        assert {answer["status"] for answer in backend.ask_many(proxies)} == {"waiting"}
        asked = client.info("commandstats")
        assert asked["cmdstat_mget"]["calls"] == 1
        assert "cmdstat_get" not in asked

    def test_a_worker_ends_when_its_patience_with_a_missing_broker_does(self, own, chosen, workers):
        own.kill()
        worker = workers({**chosen, "PACKTIVITY_CELERY_PATIENCE": "1"})
        until(lambda: b"Cannot connect to redis" in worker.log.read_bytes(), 60)
        assert worker.process.poll() is None
        own.start()
        worker.wait_ready()
