"""A backend in the shape of the one of an analysis platform: jobs go to a controller, states and parameters stay alive.

Whoever runs workflows names it PACKTIVITY_ASYNCBACKEND=analysis_platform:ExternalBackend:ExternalProxy, though there is
no ExternalProxy here; it has no prepublish either, finalizes inputs both when it submits and when it publishes, and gives
the publisher what happens to be at hand.
"""

import base64
import json
import os
import urllib.request

from packtivity.asyncbackends import ExternalAsyncProxy
from packtivity.syncbackends import build_job, finalize_inputs, packconfig, publish

PASSED_ON = {"kerberos", "compute_backend", "kubernetes_memory_limit", "kubernetes_uid", "voms_proxy", "unpacked_img"}


class LiveProxy(ExternalAsyncProxy):
    """Keeps the objects themselves, and makes JSON of them when it is asked."""

    def details(self):
        return {
            "jobproxy": self.jobproxy,
            "spec": self.spec,
            "statedata": self.statedata.json(),
            "pardata": self.pardata.json(),
            "resultdata": self.resultdata,
        }


class ExternalBackend:
    """Submits, asks for the status until it is final, publishes."""

    def __init__(self):
        self.config = packconfig()
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
        request = {
            "workflow_uuid": os.environ["WORKFLOW_UUID"],
            "workflow_workspace": os.environ["WORKFLOW_WORKSPACE"],
            "image": image,
            "cmd": job["command"] if "command" in job else as_command(job),
            "prettified_cmd": job.get("command") or job["script"],
            "job_name": metadata["name"],
            **resources_of(environment),
        }
        answer = call("/jobs", request)
        return LiveProxy(jobproxy=answer, spec=spec, pardata=parameters, statedata=state)

    def status(self, proxy):
        job = proxy.jobproxy["job_id"]
        if self.statuses.get(job) not in ("finished", "failed"):
            self.statuses[job] = call(f"/jobs/{job}")["status"]
        return self.statuses[job]

    def ready(self, resultproxy):
        return self.status(resultproxy) in ("finished", "failed")

    def successful(self, resultproxy):
        return self.status(resultproxy) == "finished"

    def fail_info(self, resultproxy):
        self.failures += f"\nraw info: {resultproxy}"
        return self.failures

    def result(self, resultproxy):
        resultproxy.pardata, resultproxy.statedata = finalize_inputs(resultproxy.pardata, resultproxy.statedata)
        return publish(resultproxy.spec["publisher"], resultproxy.pardata, resultproxy.statedata, self.config)


class Tracker:
    """Notes with each step of the workflow how many jobs there are in which state."""

    def __init__(self):
        self.file = os.path.join(os.environ["WORKFLOW_WORKSPACE"], "progress.jsonl")

    def initialize(self, adageobj):
        self.track(adageobj)

    def finalize(self, adageobj):
        self.track(adageobj)

    def track(self, adageobj):
        nodes = json.loads(json.dumps(adageobj.json()))["dag"]["nodes"]
        jobs = [node["proxy"]["proxydetails"].get("jobproxy") for node in nodes if node["proxy"]]
        with open(self.file, "a") as progress:
            json.dump({"states": [node["state"] for node in nodes], "jobs": [job for job in jobs if job]}, progress)
            progress.write("\n")


def as_command(job):
    encoded = base64.b64encode(job["script"].encode()).decode()
    return f"echo {encoded}|base64 -d|{job['interpreter']}"


def resources_of(environment):
    chosen = {}
    for resource in environment.get("resources", []):
        if isinstance(resource, dict):
            chosen.update({name: value for name, value in resource.items() if name in PASSED_ON})
    chosen.setdefault("kerberos", False)
    return chosen


def call(path, document=None):
    data = None if document is None else json.dumps(document).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(os.environ["JOB_CONTROLLER"] + path, data, headers)) as answer:
        return json.load(answer)
