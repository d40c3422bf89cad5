"""What is sent to a cluster, and how its answers are read: no cluster is needed."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from packtivity import errors
from packtivity.backends.engine import Submission
from packtivity.backends.engines.kubernetes import jobs, manifest
from packtivity.backends.engines.kubernetes.backend import KubernetesProxy
from packtivity.backends.engines.kubernetes.engine import KubernetesEngine
from packtivity.backends.engines.kubernetes.manifest import Caller, plan_pod, sub_path, user_for
from packtivity.backends.engines.kubernetes.options import read_options
from packtivity.backends.proxies import HIDDEN, hidden
from packtivity.handlers.config import ExecutionConfig
from packtivity.runtimes.resources import amount, container_resources, deadline
from packtivity.statecontexts import LocalFSState
from packtivity.task import Task
from packtivity.types import Limits

ME = Caller(1001, 100, "me", 1001)


@pytest.fixture(autouse=True)
def plain_settings(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("PACKTIVITY_", "YADAGE_"))]:
        monkeypatch.delenv(name)


def job_for(tmp_path, job=None, config=None, options=None, who=ME, readonly=(), **environment) -> Any:
    place = {"environment_type": "docker-encapsulated", "image": "busybox", "imagetag": "1", **environment}
    state = LocalFSState([str(tmp_path / "rw")], list(readonly))
    chosen = read_options({"path_base": str(tmp_path), **(options or {})})
    plan = plan_pod(job or {"command": "true"}, place, state, config or ExecutionConfig(), chosen, who)
    return manifest.make_job(plan, chosen, "wflow-job-k", "k", {"a": "b"})["spec"]


def pod_for(tmp_path, *arguments: Any, **more: Any) -> Any:
    return job_for(tmp_path, *arguments, **more)["template"]["spec"]


def test_a_job_is_tried_once_and_goes_after_a_week(tmp_path):
    job = job_for(tmp_path)
    assert (job["backoffLimit"], job["ttlSecondsAfterFinished"]) == (0, 604800)
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert "activeDeadlineSeconds" not in job["template"]["spec"]


def test_retries_leave_out_what_comes_again(tmp_path):
    job = job_for(tmp_path, config=ExecutionConfig(retries=2))
    assert job["backoffLimit"] == 2
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [126, 127]


def test_a_short_image_name_is_docker_s_whatever_nodes_take_it_for(tmp_path):
    assert pod_for(tmp_path)["containers"][0]["image"] == "docker.io/library/busybox:1"
    assert pod_for(tmp_path, image="quay.io/a/b")["containers"][0]["image"] == "quay.io/a/b:1"


def test_the_time_limit_is_the_callers_else_the_specs(tmp_path):
    limited = [{"kubernetes_job_timeout": "60"}]
    assert pod_for(tmp_path, resources=limited)["activeDeadlineSeconds"] == 60
    pod = pod_for(tmp_path, config=ExecutionConfig(timeout=1.2), resources=limited)
    assert pod["activeDeadlineSeconds"] == 2
    with pytest.raises(errors.ParameterError, match="kubernetes_job_timeout"):
        deadline(None, {"kubernetes_job_timeout": "soon"})


def test_directories_of_the_state_are_mounted_from_the_claim(tmp_path):
    (tmp_path / "in").mkdir()
    pod = pod_for(tmp_path, readonly=[str(tmp_path / "in")])
    assert pod["volumes"] == [
        {"name": "state", "persistentVolumeClaim": {"claimName": "yadagedata", "readOnly": False}}
    ]
    common = {"name": "state", "mountPropagation": "None"}
    assert pod["containers"][0]["volumeMounts"] == [
        {**common, "mountPath": f"{tmp_path}/rw", "subPath": "rw"},
        {**common, "mountPath": f"{tmp_path}/in", "subPath": "in", "readOnly": True},
    ]


def test_the_whole_volume_can_be_mounted_from_the_nodes(tmp_path):
    options = {"state_type": "hostPath", "collapse_state": True, "mount_propagation": "HostToContainer"}
    pod = pod_for(tmp_path, options=options)
    assert pod["volumes"] == [{"name": "state", "hostPath": {"path": str(tmp_path)}}]
    mount = {"name": "state", "mountPath": str(tmp_path), "mountPropagation": "HostToContainer"}
    assert pod["containers"][0]["volumeMounts"] == [mount]


def test_the_top_of_the_volume_has_no_sub_path_and_what_is_outside_is_refused():
    assert sub_path("/data", "/data") == ""
    assert sub_path("/data/a b", "/data") == "a b"
    with pytest.raises(errors.ConfigurationError, match="not in the volume"):
        sub_path("/database", "/data")


def test_authentication_mounts_the_script_of_a_secret_and_nothing_else(tmp_path):
    pod = pod_for(tmp_path, resources=["GRIDProxy"], options={"secrets": {"hepauth": "mine"}})
    items = [{"key": "getkrb.sh", "path": "getkrb.sh", "mode": 0o755}]
    assert {"name": "hepauth", "secret": {"secretName": "mine", "items": items}} in pod["volumes"]
    container = pod["containers"][0]
    assert {"name": "hepauth", "mountPath": "/recast_auth", "readOnly": True} in container["volumeMounts"]
    assert {"name": "KRB_SETUP_SCRIPT", "value": "/recast_auth/getkrb.sh"} in container["env"]


def test_credentials_come_from_secrets_by_name_and_only_when_asked_for(tmp_path):
    secrets = {"secrets": {"voms_proxy": "my-proxy", "token": "my-token", "kerberos": "my-ticket"}}
    assert len(pod_for(tmp_path, options=secrets)["volumes"]) == 1
    pod = pod_for(tmp_path, options=secrets, resources=[{"voms_proxy": True}])
    assert [volume["secret"]["secretName"] for volume in pod["volumes"][1:]] == ["my-proxy", "my-token"]
    values = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
    assert values["X509_USER_PROXY"] == "/packtivity-credentials/voms_proxy/x509up"


def test_the_password_of_inject_krb_is_seen_by_kinit_only(tmp_path):
    pod = pod_for(tmp_path, options={"inject_krb": True})
    (kinit,) = pod["initContainers"]
    assert [each["name"] for each in kinit["env"]] == ["KRB5CCNAME", "KRBUSERNAME", "KRBPASSWORD"]
    names = [each["name"] for each in pod["containers"][0]["env"]]
    assert "KRB5CCNAME" in names
    assert "KRBPASSWORD" not in names


@pytest.mark.parametrize(
    ("kind", "places"),
    [
        ("claims", ["/cvmfs/a.cern.ch", "/cvmfs/b-c.cern.ch"]),
        ("claim", ["/cvmfs"]),
        ("hostPath", ["/cvmfs"]),
    ],
)
def test_cvmfs_is_mounted_to_be_read(tmp_path, kind, places):
    options = {"cvmfs_type": kind, "cvmfs_repos": ["a.cern.ch", "b-c.cern.ch"]}
    mounts = pod_for(tmp_path, options=options, resources=["CVMFS"])["containers"][0]["volumeMounts"][1:]
    assert [mount["mountPath"] for mount in mounts] == places
    assert all(mount["readOnly"] for mount in mounts)


def test_images_that_need_a_password_name_it(tmp_path):
    pod = pod_for(tmp_path, options={"secrets": {"hepimgcred": ["one", {"name": "two"}]}})
    assert pod["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]


@pytest.mark.parametrize(("policy", "said"), [("missing", "IfNotPresent"), ("always", "Always"), ("never", "Never")])
def test_images_are_pulled_as_the_caller_says(tmp_path, policy, said):
    config = ExecutionConfig({"containers": {"pull": policy}})
    assert pod_for(tmp_path, config=config)["containers"][0]["imagePullPolicy"] == said


def test_a_locked_image_is_named_by_its_digest(tmp_path):
    config = ExecutionConfig({"containers": {"locked": {"busybox:1": "sha256:" + "a" * 64}}})
    container = pod_for(tmp_path, config=config)["containers"][0]
    assert container["image"] == "docker.io/library/busybox@sha256:" + "a" * 64


@pytest.mark.parametrize("image", ["/images/folder", "oras://host/name"])
def test_what_nodes_cannot_pull_is_refused(tmp_path, image):
    with pytest.raises(errors.EnvironmentUnavailable, match="Push the image to a registry"):
        pod_for(tmp_path, image=image)


def test_an_unpacked_image_on_cvmfs_is_pulled_from_its_registry(tmp_path):
    container = pod_for(tmp_path, image="/cvmfs/unpacked.cern.ch/docker.io/library/busybox:2", imagetag="latest")
    assert container["containers"][0]["image"] == "docker.io/library/busybox:2"


def test_an_ordinary_users_pod_fits_a_restricted_namespace(tmp_path):
    pod = pod_for(tmp_path)
    assert pod["securityContext"] == {
        "runAsUser": 1001,
        "runAsGroup": 100,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    drop = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert pod["containers"][0]["securityContext"] == drop
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("told", "who", "expected"),
    [
        (None, Caller(1001, 100, "me", 0), (1001, 100)),
        (None, Caller(0, 0, "root", 0), (1000, 1000)),
        (None, Caller(0, 0, "root", 1234), (1234, 1234)),
        ("0", Caller(1001, 100, "me", 0), (0, 100)),
        ("500", Caller(0, 0, "root", 0), (500, 500)),
        ("500:600", ME, (500, 600)),
        ("image", ME, None),
    ],
)
def test_who_a_task_runs_as(told, who, expected):
    assert user_for(told, who) == expected


def test_files_are_kept_byte_for_byte_in_a_config_map(tmp_path):
    job = {"script": "caf\udce9\n", "interpreter": "sh"}
    mounts = [{"mountpath": "/etc/a", "mountcontent": "ä"}]
    options = read_options({"path_base": str(tmp_path)})
    place = {"environment_type": "docker-encapsulated", "image": "busybox", "imagetag": "1", "par_mounts": mounts}
    plan = plan_pod(job, place, LocalFSState([str(tmp_path)]), ExecutionConfig(), options, ME)
    found = manifest.make_files(plan, options, "n", "k", "uid")
    assert found["binaryData"] == {"stdin": "Y2Fm6Qo="}
    assert found["data"] == {"par-mount-0": "ä"}
    assert found["metadata"]["ownerReferences"][0]["uid"] == "uid"
    long = replace(plan, execution=replace(plan.execution, stdin=b"x" * 1_000_001))
    with pytest.raises(errors.ParameterError, match="1000003 bytes together"):
        manifest.make_files(long, options, "n", "k", "uid")


@pytest.mark.parametrize("text", ["$", "$$", "$(HOME)", "$$(HOME)", "a$b$(c", "$$$"])
def test_kubernetes_makes_the_text_of_a_literal_again(text):
    from importlib.util import module_from_spec, spec_from_file_location
    from pathlib import Path

    found = spec_from_file_location("node", Path(__file__).parent / "node.py")
    assert found is not None
    assert found.loader is not None
    node = module_from_spec(found)
    found.loader.exec_module(node)
    assert node.expand(manifest.literal(text), {"HOME": "/root"}) == text


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1), ("500m", 0.5), ("1.5Gi", 1.5 * 2**30), ("2G", 2e9), ("1e3", 1000), (".5", 0.5)]
)
def test_quantities(text, number):
    assert amount(text, "here") == number


@pytest.mark.parametrize("text", ["", "lots", "1 Gi", "1GiB", "-1", "1mm"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(errors.ParameterError, match="no quantity of Kubernetes"):
        amount(text, "here")


@pytest.mark.parametrize(
    "resource",
    [
        {"kubernetes_memory_limit": "8GB"},
        {"kubernetes_cpu_request": "two"},
        {"kubernetes_uid": "root"},
        {"kubernetes_job_timeout": "1h"},
    ],
)
def test_resources_for_kubernetes_that_cannot_be_read_are_refused_with_their_place(tmp_path, resource):
    (name,) = resource
    with pytest.raises(errors.ParameterError, match=rf"environment\.resources\[1\]\.{name}: .* cannot be read\n"):
        pod_for(tmp_path, resources=["CVMFS", resource])


def test_the_callers_limits_win_and_requests_stay_below_them():
    base = {"requests": {"memory": "2Gi", "cpu": "1"}}
    spec = {"kubernetes_memory_limit": "4Gi", "kubernetes_cpu_request": "2"}
    assert container_resources(base, spec, Limits()) == {
        "requests": {"memory": "2Gi", "cpu": "2"},
        "limits": {"memory": "4Gi"},
    }
    found = container_resources(base, spec, Limits(cpus=0.5, memory=2**20, gpus="1"))
    assert found["requests"] == {"memory": "1048576", "cpu": "500m"}
    assert found["limits"] == {"memory": "1048576", "cpu": "500m", "nvidia.com/gpu": "1"}
    with pytest.raises(errors.ParameterError, match="over 1Gi"):
        container_resources(base, {"kubernetes_memory_request": "2Gi", "kubernetes_memory_limit": "1Gi"}, Limits())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"namespaze": "a"}, "no option 'namespaze'"),
        ({"state_type": "nfs"}, "state_type: 'nfs' is none of"),
        ({"resource_prefix": "Bad_"}, "cannot begin the name of a Job"),
        ({"resource_opts": {"request": {}}}, "requests and limits"),
        ({"pod_spec": {"containers": []}}, "planned from the task"),
        ({"run_as_user": "root"}, "'root' is no user"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(errors.BackendError, match=message):
        read_options(options)


def test_settings_say_what_options_do_not(monkeypatch):
    monkeypatch.setenv("PACKTIVITY_KUBE_STATE", "hostPath:/data")
    monkeypatch.setenv("PACKTIVITY_KUBE_NAMESPACE", "ns")
    monkeypatch.setenv("PACKTIVITY_KUBE_RESOURCE_OPTS", '{"limits": {"cpu": "3"}}')
    found = read_options({"resource_opts": {"requests": {"cpu": "1"}}, "namespace": "mine"})
    assert (found.state_type, found.claim_name, found.namespace) == ("hostPath", "/data", "mine")
    assert found.resource_opts == {"limits": {"cpu": "3"}}


# --- reading ----------------------------------------------------------------------------------------------------


def look(job_status: Any, pod_status: Any = None, pull_patience: float = 100) -> jobs.JobStatus:
    job = {"metadata": {"name": "j", "uid": "u"}, "status": job_status, "spec": {}}
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "payload", "image": "i"}]}, "status": pod_status}
    return jobs.view(job, [] if pod_status is None else [pod], 1_000_000_000, pull_patience)


FAILED = {
    "conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}]
}


def ended(**terminated: Any) -> Any:
    return {"phase": "Failed", "containerStatuses": [{"name": "payload", "state": {"terminated": terminated}}]}


@pytest.mark.parametrize(
    ("pod", "cause", "reason"),
    [
        (ended(exitCode=3, reason="Error"), "exit", ""),
        (ended(exitCode=137, reason="OOMKilled"), "memory", "OOMKilled"),
        (ended(exitCode=128, reason="StartError", message="no sh"), "unavailable", "StartError: no sh"),
        (ended(exitCode=137, reason="ContainerStatusUnknown"), "lost", "ContainerStatusUnknown"),
        ({"phase": "Failed", "reason": "Evicted", "message": "low"}, "lost", "Evicted: low (on a node)"),
        ({"phase": "Failed", "reason": "DeadlineExceeded"}, "timeout", "DeadlineExceeded"),
        ({"phase": "Failed"}, "lost", "nobody knows how its container ended"),
        (None, "lost", "BackoffLimitExceeded: too often"),
        (
            {
                **ended(exitCode=143, reason="Error"),
                "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}],
            },
            "lost",
            "PreemptionByScheduler (on a node)",
        ),
    ],
)
def test_why_a_pod_failed(pod, cause, reason):
    seen = look(FAILED, pod)
    assert (seen.status, seen.cause, seen.reason) == ("failed", cause, reason)


def test_an_image_without_a_shell_is_told_so():
    said = 'exec: "sh": executable file not found in $PATH'
    seen = look(FAILED, ended(exitCode=128, reason="StartError", message=said))
    template = {"spec": {"containers": [{"name": "payload", "image": "i"}], "activeDeadlineSeconds": 60}}

    class Ended(KubernetesEngine):
        def __init__(self) -> None:
            """Without a connection."""

        def _statuses(self, submissions: Any) -> Any:
            return [seen._replace(job={**(seen.job or {}), "spec": {"template": template}})]

    found = Ended().collect(Submission("t", {"namespace": "n"}), Task({}, {}))
    assert (found.cause, found.returncode, found.timeout, found.image) == ("refused", 128, 60, ("i", ""))
    assert found.reason == f"the container cannot be started: StartError: {said} (image i)"
    assert found.hint == "The image has no shell (sh), which commands and scripts are run by."


def waiting(reason: str, since: str = "2001-09-09T01:45:00Z") -> Any:
    states = [{"name": "payload", "state": {"waiting": {"reason": reason, "message": "m"}}}]
    return {"phase": "Pending", "startTime": since, "containerStatuses": states}


@pytest.mark.parametrize(
    ("pod", "patience", "status"),
    [
        (waiting("ImagePullBackOff"), 10, "stuck"),
        (waiting("ImagePullBackOff"), 1000, "waiting"),
        (waiting("InvalidImageName"), 1000, "stuck"),
        (waiting("ContainerCreating"), 0, "waiting"),
        (
            {
                "phase": "Pending",
                "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}],
            },
            0,
            "waiting",
        ),
        ({"phase": "Running"}, 0, "running"),
        (None, 0, "waiting"),
    ],
)
def test_a_pod_that_has_not_begun(pod, patience, status):
    assert look({"active": 1}, pod, patience).status == status


def test_who_is_out_of_time_is_not_tried_again():
    assert look({"failed": 1}, {"phase": "Failed", "reason": "DeadlineExceeded"}).cause == "timeout"


def test_no_job_is_gone():
    assert jobs.view(None, [], 0, 0).status == "gone"


def test_a_proxy_s_document_hides_passwords_however_deep_they_are():
    given = {"sites": [{"name": "a", "login": {"password": ["hunter22!", 3]}}], "api_key": "x" * 9, "n": [1, None]}
    shown = hidden(given)
    assert shown == {"sites": [{"name": "a", "login": {"password": [HIDDEN, 3]}}], "api_key": HIDDEN, "n": [1, None]}
    assert given["api_key"] == "x" * 9


def test_what_a_proxy_s_document_says_of_the_end_comes_through_it_again():
    known = {"job_id": "", "task_id": "t", "key": "k", "name": "n", "record": None}
    details = {"jobproxy": known, "spec": {}, "statedata": None, "pardata": {}, "resultdata": {"a": 1}}
    answer = {"status": "succeeded", "result": {"a": 1}, "error": None}
    document = {"proxyname": "KubernetesProxy", "proxydetails": {**details, "answer": answer, "labels": [1]}}
    assert KubernetesProxy.fromJSON(document).json() == document
