"""Tasks on a cluster: what comes out, what is written down, and what is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from packtivity import errors
from packtivity.backends.registry import backend_from_string, load_proxy
from packtivity.record import schema
from packtivity.statecontexts import LocalFSState

if TYPE_CHECKING:
    from pathlib import Path

PUBLISH = {"publisher_type": "frompar-pub", "outputmap": {"out": "out"}}


UNTIL_GO = "until test -e go; do sleep 0.1; done"


@pytest.fixture
def backend(cluster: Any) -> Any:
    synchronous, made = backend_from_string("kubernetes")
    assert synchronous is False
    return made


@pytest.fixture
def workdir(cluster: Any) -> Path:
    folder: Path = cluster.base / f"work-{os.urandom(4).hex()}"
    folder.mkdir()
    return folder


def spec(cluster: Any, process: Any, image: str = "test/busybox", publisher: Any = None, **environment: Any) -> Any:
    process = {"process_type": "string-interpolated-cmd", "cmd": process} if isinstance(process, str) else process
    image = image if "." in image else f"{cluster.registry}/{image}"
    place = {"environment_type": "docker-encapsulated", "image": image, "imagetag": "1.0", "envscript": "", "env": {}}
    place |= {"resources": [], "workdir": None, "par_mounts": [], **environment}
    return {"process": process, "environment": place, "publisher": publisher or PUBLISH}


def submit(backend: Any, task: Any, workdir: Path, **parameters: Any) -> Any:
    from packtivity import datamodel

    parameters.setdefault("out", "{workdir}/out.txt")
    return backend.submit(task, datamodel.create(parameters), LocalFSState([str(workdir)]), {"name": "one"})


def record(proxy: Any) -> Any:
    """Return the record of a task, which has the form that is published."""
    with open(proxy.record, encoding="utf-8") as file:
        found = json.load(file)
    jsonschema.Draft4Validator(schema()).validate(found)
    return found


def test_a_command_writes_its_output_and_leaves_nothing_in_the_cluster(cluster, backend, workdir):
    proxy = submit(backend, spec(cluster, "echo seen; echo $(id -u) {word} > {out}"), workdir, word="hello")
    assert backend.result(proxy).json() == {"out": f"{workdir}/out.txt"}
    assert backend.successful(proxy)
    assert (workdir / "out.txt").read_text() == f"{os.getuid() or 1000} hello\n"
    assert "| seen" in (workdir / "_packtivity" / "one.run.log").read_text()
    cluster.until(lambda: not cluster.objects("jobs") and not cluster.objects("pods"))


def test_the_record_says_what_ran_where_and_with_which_image(cluster, backend, workdir):
    proxy = submit(backend, spec(cluster, "exit 0"), workdir)
    backend.result(proxy)
    found = record(proxy)
    assert found["status"] == "succeeded"
    assert found["exit_code"] == 0
    assert found["command"] == ["sh", "-c", "exit 0"]
    assert found["image"]["digest"].startswith("sha256:")
    assert found["attempts"] == 1
    assert found["usage"] is None
    assert found["missing"] == [f"{workdir}/out.txt"]


def test_a_script_is_standard_input_byte_for_byte(cluster, backend, workdir):
    script = "cat > {out} <<'END'\n$HOME $(HOME) $$ $$(HOME) ä\\n \"'`\nEND\n"
    process = {"process_type": "interpolated-script-cmd", "script": script, "interpreter": "sh -e"}
    backend.result(submit(backend, spec(cluster, process), workdir))
    assert (workdir / "out.txt").read_text() == "$HOME $(HOME) $$ $$(HOME) ä\\n \"'`\n"
    cluster.until(lambda: not cluster.objects("configmaps"))


def test_dollars_in_commands_and_variables_are_left_to_the_shell(cluster, backend, workdir):
    task = spec(cluster, "printf '%s|' '$(HOME)' '$$' \"$A\" \"$(echo sub)\" > {out}", env={"A": "$(HOME) $$ $(A) x"})
    backend.result(submit(backend, task, workdir))
    assert (workdir / "out.txt").read_text() == "$(HOME)|$$|$(HOME) $$ $(A) x|sub|"


def test_envscript_par_mounts_and_work_directory(cluster, backend, workdir):
    (workdir / "setup.sh").write_text("export FROM=setup\n")
    mounts = [{"jqscript": "{a: .word}", "mountpath": "/etc/sub/par.json"}]
    task = spec(
        cluster,
        {
            "process_type": "interpolated-script-cmd",
            "script": "pwd > {out}; echo $FROM >> {out}; cat /etc/sub/par.json >> {out}",
            "interpreter": "sh",
        },
        envscript=f"{workdir}/setup.sh",
        workdir="{workdir}",
        par_mounts=mounts,
    )
    backend.result(submit(backend, task, workdir, word="x"))
    assert (workdir / "out.txt").read_text() == f'{workdir}\nsetup\n{{"a": "x"}}'


@pytest.mark.soak
def test_read_only_directories_are_read_only(cluster, backend, workdir):
    data = cluster.base / "data"
    data.mkdir(exist_ok=True)
    (data / "in").write_text("given")
    state = LocalFSState([str(workdir)], [str(data)])
    proxy = backend.submit(spec(cluster, f"cat {data}/in > {{out}}; ! touch {data}/new"), {"out": "{workdir}/o"}, state)
    assert backend.result(proxy).json() == {"out": f"{workdir}/o"}
    assert not (data / "new").exists()


def test_a_failing_command_is_told_with_exit_code_output_and_log(cluster, backend, workdir):
    proxy = submit(backend, spec(cluster, "echo went wrong >&2; exit 3"), workdir)
    with pytest.raises(errors.TaskFailed) as caught:
        backend.result(proxy)
    assert caught.value.returncode == 3
    assert "exit code 3" in str(caught.value)
    assert "went wrong" in str(caught.value)
    assert str(workdir / "_packtivity" / "one.run.log") in str(caught.value)
    assert not backend.successful(proxy)
    assert backend.fail_info(proxy)[0] == "TaskFailed"
    assert (record(proxy)["exit_code"], record(proxy)["status"]) == (3, "failed")
    cluster.until(lambda: not cluster.objects("jobs"))


def test_a_task_that_runs_too_long_is_ended_and_its_output_kept(cluster, backend, workdir):
    backend.exec_config = backend.exec_config.replace(timeout=1.5)
    proxy = submit(backend, spec(cluster, "echo began; sleep 60"), workdir)
    with pytest.raises(errors.TaskTimeout, match="longer than 2 s"):
        backend.result(proxy)
    assert record(proxy)["timed_out"] is True
    assert "began" in (workdir / "_packtivity" / "one.run.log").read_text()


def test_running_out_of_memory_is_told(cluster, backend, workdir):
    task = spec(cluster, "head -c 300000000 /dev/zero | tail", resources=[{"kubernetes_memory_limit": "20Mi"}])
    proxy = submit(backend, task, workdir)
    with pytest.raises(errors.TaskFailed, match="ran out of memory and was killed .OOMKilled"):
        backend.result(proxy)
    assert record(proxy)["out_of_memory"] is True


def test_an_image_that_is_not_there_is_named(cluster, workdir):
    _, backend = backend_from_string("kubernetes", {"pull_patience": 1})
    proxy = submit(backend, spec(cluster, "true", image="test/nowhere"), workdir)
    with pytest.raises(errors.EnvironmentUnavailable, match="test/nowhere") as caught:
        backend.result(proxy)
    assert "ErrImagePull" in str(caught.value) or "ImagePullBackOff" in str(caught.value)
    assert record(proxy)["status"] == "failed"
    cluster.until(lambda: not cluster.objects("jobs") and not cluster.objects("pods"))


def test_an_evicted_pod_is_lost_not_failed(cluster, backend, workdir):
    proxy = submit(backend, spec(cluster, "echo began; sleep 60"), workdir)
    cluster.until(cluster.running)
    assert backend.status(proxy).status == "running"
    cluster.evict()
    with pytest.raises(errors.WorkerLost, match="Evicted: The node was low on resource: memory. .on test-node"):
        backend.result(proxy)
    assert "Evicted" in record(proxy)["error"]["message"]


def test_what_cannot_run_in_a_pod_has_failed_and_sends_nothing(cluster, backend, workdir):
    task = spec(cluster, "true")
    task["environment"] = {"environment_type": "localproc-env"}
    proxy = submit(backend, task, workdir)
    assert backend.ready(proxy)
    with pytest.raises(errors.EnvironmentUnavailable, match="runs containers only"):
        backend.result(proxy)
    assert cluster.objects("jobs") == []
    again, _ = load_proxy(json.loads(json.dumps(proxy.json())))
    assert backend.fail_info(again)[0] == "EnvironmentUnavailable"


def test_a_task_that_only_publishes_needs_no_pod(cluster, backend, workdir):
    task = {"process": None, "environment": None, "publisher": PUBLISH}
    proxy = backend.submit(task, {"out": 3}, None)
    assert backend.result(proxy).json() == {"out": 3}
    assert cluster.objects("jobs") == []


def test_a_directory_outside_the_volume_is_refused(cluster, backend, tmp_path):
    proxy = submit(backend, spec(cluster, "true"), tmp_path)
    with pytest.raises(errors.ConfigurationError, match="not in the volume of the cluster"):
        backend.result(proxy)


# --- proxies ----------------------------------------------------------------------------------------------------


def in_another_process(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


ASK = """
import json, sys
from packtivity.backends.registry import load_proxy
proxy, backend = load_proxy(json.load(open(sys.argv[1])))
print(json.dumps([backend.ready(proxy), backend.successful(proxy)]))
open(sys.argv[2], "w").close()
print(backend.result(proxy).json())
"""


def test_another_process_can_ask_wait_and_publish(cluster, backend, workdir, tmp_path):
    publisher = {"publisher_type": "fromglob-pub", "globexpression": "*.txt", "outputkey": "out"}
    task = spec(cluster, f"{UNTIL_GO}; touch {{out}}", publisher=publisher, workdir="{workdir}")
    proxy = submit(backend, task, workdir)
    (tmp_path / "proxy.json").write_text(json.dumps(proxy.json()))
    told = in_another_process(ASK, str(tmp_path / "proxy.json"), str(workdir / "go"))
    assert told == f"[false, false]\n{{'out': ['{workdir}/out.txt']}}\n"
    assert backend.result(proxy).json() == {"out": [f"{workdir}/out.txt"]}


def test_a_proxy_document_has_no_credentials_and_no_secret_parameters(cluster, backend, workdir):
    task = spec(cluster, "echo {api_token} > {out}")
    proxy = submit(backend, task, workdir, api_token="s3cr3t-value")
    text = json.dumps(proxy.json())
    assert "s3cr3t-value" not in text
    assert "user-token" not in text
    again, other = load_proxy(json.loads(text))
    assert other.result(again).json() == {"out": f"{workdir}/out.txt"}
    assert (workdir / "out.txt").read_text() == "s3cr3t-value\n"
    assert "s3cr3t-value" not in (workdir / "_packtivity" / f"one.{proxy.task_id}.outcome.json").read_text()


@pytest.mark.soak
def test_a_result_with_a_secret_parameter_in_it_is_only_told_where_it_is_known(
    cluster, backend, workdir, tmp_path, monkeypatch
):
    publisher = {
        "publisher_type": "interpolated-pub",
        "publish": {"t": "{api_token}"},
        "glob": False,
        "relative_paths": False,
    }
    proxy = submit(backend, spec(cluster, "true", publisher=publisher), workdir, api_token="s3cr3t-value")
    again, other = load_proxy(json.loads(json.dumps(proxy.json())))
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("PACKTIVITY_STATE_DIR", str(tmp_path))
        cluster.until(lambda: isinstance(other.statuses([again])[0], errors.ProxyError))
    assert backend.result(proxy).json() == {"t": "s3cr3t-value"}


def test_cancelling_ends_the_pod(cluster, backend, workdir):
    proxy = submit(backend, spec(cluster, "echo began; sleep 60; touch {out}"), workdir)
    cluster.until(cluster.running)
    again, other = load_proxy(json.loads(json.dumps(proxy.json())))
    other.cancel(again)
    assert backend.status(proxy).status == "cancelled"
    with pytest.raises(errors.TaskCancelled):
        backend.result(proxy)
    cluster.until(lambda: not cluster.objects("pods"))
    assert record(proxy)["status"] == "cancelled"
    assert not (workdir / "out.txt").exists()


def test_many_tasks_are_asked_about_in_one_go(cluster, backend, workdir):
    proxies = []
    for at in range(6):
        folder = workdir / str(at)
        folder.mkdir()
        proxies.append(submit(backend, spec(cluster, UNTIL_GO, workdir="{workdir}"), folder))
    if cluster.kind == "small":
        cluster.asked()
        assert {answer.status for answer in backend.statuses(proxies)} <= {"waiting", "running"}
        assert not any(backend.ready(proxy) for proxy in proxies)  # one after the other, as engines do
        assert [(method, path.rpartition("/")[2]) for method, path, _ in cluster.asked()] == [
            ("GET", "jobs"),
            ("GET", "pods"),
        ]
    for folder in workdir.iterdir():
        (folder / "go").write_text("")
    cluster.until(lambda: all(answer.status == "succeeded" for answer in backend.statuses(proxies)))
    cluster.until(lambda: not cluster.objects("jobs"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "../../../tmp/x"}, "no key"),
        ({"task_id": "../x"}, "task_id"),
        ({"job_id": "a/../b"}, "cannot be the name"),
        ({"uid": None}, "form"),
        ({"record": ["/etc/passwd"]}, "form"),
        ({"record": "/etc/passwd"}, "form"),
        ({"config": ["exec"]}, "form"),
        ({"datamodel": {"keyword": "$t", "types": {"a": "antigravity:x"}, "literals": []}}, "antigravity"),
    ],
)
def test_a_proxy_document_that_somebody_made_up_is_refused(change, message):
    known = {"job_id": "j", "namespace": "n", "cluster": "c", "uid": "u", "task_id": "t", "key": "k", "record": None}
    details = {"jobproxy": {**known, **change}, "spec": {}, "statedata": None, "pardata": {}, "resultdata": None}
    document = {"proxyname": "KubernetesProxy", "proxydetails": details}
    with pytest.raises(errors.PacktivityError, match=message):
        load_proxy(document, best_effort_backend=False)


def test_without_records_a_pod_that_may_still_start_is_ended_all_the_same(cluster, workdir, monkeypatch):
    monkeypatch.setenv("PACKTIVITY_RECORD", "false")
    _, backend = backend_from_string("kubernetes", {"pull_patience": 0.5})
    proxy = submit(backend, spec(cluster, "true", image="test/nowhere"), workdir)
    with pytest.raises(errors.EnvironmentUnavailable, match="cannot be started"):
        backend.result(proxy)
    cluster.until(lambda: not cluster.objects("jobs"))
    again, other = load_proxy(json.loads(json.dumps(proxy.json())))
    assert other.fail_info(again)[0] == "EnvironmentUnavailable"


# --- the command line -------------------------------------------------------------------------------------------


def test_the_commands_run_submit_and_ask(cluster, workdir, tmp_path):
    (tmp_path / "spec.yml").write_text(json.dumps(spec(cluster, "echo printed; echo {word} > {out}")))
    parameters = ("-p", "word=hi", "-p", 'out="{workdir}/out.txt"', "-w", str(workdir))
    run = [sys.executable, "-c", "from packtivity.cli import runcli; runcli()", str(tmp_path / "spec.yml"), *parameters]
    done = subprocess.run([*run, "-b", "kubernetes"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"<TypedLeafs: {{'out': '{workdir}/out.txt'}}> (post-run)" in done.stdout
    assert (workdir / "out.txt").read_text() == "hi\n"
    proxy = str(tmp_path / "proxy.json")
    subprocess.run([*run, "-b", "kubedirectjob", "--async", "-x", proxy], capture_output=True, check=True)
    ask = [sys.executable, "-c", "from packtivity.cli import checkproxy; checkproxy()", "--wait", "--logs", proxy]
    asked = subprocess.run(ask, capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    assert f'ready: True\nsuccessful: True\nresult: {{"out": "{workdir}/out.txt"}}\n' in asked.stdout
    assert asked.stdout.count("| printed") == 2
