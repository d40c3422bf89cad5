"""A small job controller with the calls of an analysis platform's: POST /jobs, GET /jobs/ID, GET /jobs/ID/logs.

It writes its address to the file it is given, and each job it has been given to FILE.jobs, one JSON document a line,
with the command decoded and the program that asked. Standard input ends it, and with it every job.
"""

import base64
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADDRESS = sys.argv[1]
REQUIRED = {"docker_img", "cmd", "prettified_cmd", "workflow_workspace", "workflow_uuid", "job_name"}
jobs = {}
numbers = itertools.count(1)


class Job:
    """A command that runs in the workspace, and what is told of it."""

    def __init__(self, job_id, request):
        self.told = {"job_id": job_id, "docker_img": request["docker_img"], "cmd": request["cmd"]}
        self.told |= {"max_restart_count": 3, "restart_count": 0}
        self.log = f"{ADDRESS}.{job_id}.log"
        with open(self.log, "wb") as output:
            self.process = subprocess.Popen(
                ["sh", "-c", base64.b64decode(request["cmd"]).decode()],
                cwd=request["workflow_workspace"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def status(self):
        return {None: "started", 0: "finished"}.get(self.process.poll(), "failed")


class Controller(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/jobs" or not set(request) >= REQUIRED:
            self.answer(400, {"message": f"a job has {sorted(REQUIRED)}"})
            return
        job_id = f"job-{next(numbers)}"
        jobs[job_id] = Job(job_id, request)
        known = {**request, "cmd": base64.b64decode(request["cmd"]).decode(), "by": self.headers["User-Agent"]}
        with open(f"{ADDRESS}.jobs", "a") as log:
            log.write(json.dumps(known) + "\n")
        self.answer(201, {"job_id": job_id})

    def do_GET(self):
        job_id, _, rest = self.path.removeprefix("/jobs/").partition("/")
        job = jobs.get(job_id)
        if job is None:
            self.answer(404, {"message": f"The job {job_id} doesn't exist"})
        elif rest == "logs":
            with open(job.log, "rb") as output:
                self.send(200, "text/plain", output.read())
        else:
            self.answer(200, {**job.told, "status": job.status()})

    def answer(self, code, document):
        self.send(code, "application/json", json.dumps(document).encode())

    def send(self, code, kind, content):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Controller)
threading.Thread(target=server.serve_forever, daemon=True).start()
with open(f"{ADDRESS}.new", "w") as file:
    file.write(f"http://127.0.0.1:{server.server_port}")
os.rename(f"{ADDRESS}.new", ADDRESS)
sys.stdin.read()
for job in jobs.values():
    if job.process.poll() is None:
        os.killpg(job.process.pid, signal.SIGKILL)
