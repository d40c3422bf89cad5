"""A backend in the shape of the one of an analysis platform: jobs go to a controller, states and parameters stay alive.

Whoever runs workflows names it PACKTIVITY_ASYNCBACKEND=analysis_platform:ExternalBackend:ExternalProxy, though there is
no ExternalProxy here; it has no prepublish either, finalizes inputs both when it submits and when it publishes, and gives
the publisher what happens to be at hand. JOB_CONTROLLER_CLIENT chooses who talks to the controller: the platform's own
client (reana_commons), or one that says the same (anything else).
"""

import base64
import json
import os
import urllib.request

from packtivity.asyncbackends import ExternalAsyncProxy
from packtivity.syncbackends import build_job, finalize_inputs, packconfig, publish

UUID, WORKSPACE = "workflow_uuid", "workflow_workspace"
PASSED_ON = {
    "kerberos",
    "compute_backend",
    "kubernetes_uid",
    "kubernetes_memory_limit",
    "kubernetes_job_timeout",
    "unpacked_img",
    "voms_proxy",
    "htcondor_max_runtime",
    "htcondor_accounting_group",
}


class LiveProxy(ExternalAsyncProxy):
    """Keeps the objects themselves, and makes JSON of them when it is asked."""

    def details(self):
        return {
            "resultdata": self.resultdata,
            "jobproxy": self.jobproxy,
            "spec": self.spec,
            "statedata": self.statedata.json(),
            "pardata": self.pardata.json(),
        }


class ExternalBackend:
    """Submits, asks for the status until it is final, publishes."""

    def __init__(self):
        self.config = packconfig()
        self.controller = client()
        self.statuses = {}
        self.failures = ""

    def submit(self, spec, parameters, state, metadata):
        parameters, state = finalize_inputs(parameters, state)
        job = build_job(spec["process"], parameters, state, self.config)
        state.ensure()
        environment = spec["environment"]
        image = environment["image"]
        if environment.get("imagetag", ""):
            image += ":" + environment["imagetag"]
        answer = self.controller.submit(
            workflow_uuid=os.environ[UUID],
            image=image,
            cmd=job["command"] if "command" in job else as_command(job),
            prettified_cmd=job["command"] if "command" in job else job["script"],
            workflow_workspace=os.environ[WORKSPACE],
            job_name=metadata["name"],
            cvmfs_mounts="false",
            **resources_of(environment),
        )
        return LiveProxy(jobproxy=answer, spec=spec, pardata=parameters, statedata=state)

    def status(self, proxy):
        job = proxy.jobproxy["job_id"]
        if self.statuses.get(job, "started") == "started":
            self.statuses[job] = self.controller.check_status(job)["status"]
        return self.statuses[job]

    def ready(self, resultproxy):
        return self.status(resultproxy) != "started"

    def successful(self, resultproxy):
        return self.status(resultproxy) == "finished"

    def fail_info(self, resultproxy):
        self.failures += f"\nraw info: {resultproxy}"
        return self.failures

    def result(self, resultproxy):
        resultproxy.pardata, resultproxy.statedata = finalize_inputs(resultproxy.pardata, resultproxy.statedata)
        return publish(resultproxy.spec["publisher"], resultproxy.pardata, resultproxy.statedata, self.config)


class Tracker:
    """Notes with each step of the workflow how many jobs there are in which state; it looks at the living proxies."""

    def __init__(self):
        self.file = os.path.join(os.environ[WORKSPACE], "progress.jsonl")

    def initialize(self, adageobj):
        self.track(adageobj)

    def finalize(self, adageobj):
        self.track(adageobj)

    def track(self, adageobj):
        from yadage.utils import WithJsonRefEncoder

        json.loads(json.dumps(adageobj.json(), cls=WithJsonRefEncoder, sort_keys=True))
        nodes = [adageobj.dag.getNode(name) for name in adageobj.dag.nodes()]
        own = [node for node in nodes if not node.task.metadata["wflow_hints"].get("is_purepub", False)]
        jobs = [node.resultproxy.jobproxy for node in own if node.resultproxy]
        with open(self.file, "a") as progress:
            json.dump({"states": [str(node.state) for node in nodes], "jobs": jobs}, progress)
            progress.write("\n")


def as_command(job):
    encoded = base64.b64encode(job["script"].encode()).decode()
    return f"echo {encoded}|base64 -d|{job['interpreter']}"


def resources_of(environment):
    chosen = {}
    for resource in environment.get("resources", []):
        if isinstance(resource, dict):
            chosen.update({name: value for name, value in resource.items() if name in PASSED_ON and value is not None})
    return chosen


class Client:
    """Says to the controller what the platform's own client says."""

    def submit(self, *, image, cmd, **others):
        job = {"docker_img": image, "cmd": base64.b64encode(cmd.encode()).decode(), "env_vars": {}}
        return call("/jobs", {**job, **others})

    def check_status(self, job_id):
        return call(f"/jobs/{job_id}")


def client():
    if os.environ.get("JOB_CONTROLLER_CLIENT") != "reana_commons":
        return Client()
    from reana_commons.api_client import JobControllerAPIClient
    from reana_commons.config import OPENAPI_SPECS

    specification = OPENAPI_SPECS["reana-job-controller"][1]
    OPENAPI_SPECS["reana-job-controller"] = (os.environ["JOB_CONTROLLER"], specification)
    return JobControllerAPIClient("reana-job-controller")


def call(path, document=None):
    data = None if document is None else json.dumps(document).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(os.environ["JOB_CONTROLLER"] + path, data, headers)) as answer:
        return json.load(answer)
