"""A small job controller over HTTP: POST /jobs with a command gives a job id, GET /jobs/ID its status.

It writes its address to the file it is given, and each job it has been given to FILE.jobs, one JSON document a line.
Standard input ends it, and with it every job.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADDRESS = sys.argv[1]
jobs = {}
numbers = itertools.count(1)


class Controller(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/jobs" or not {"image", "cmd", "workflow_workspace", "job_name"} <= set(request):
            self.answer(400, {"message": "this is no job"})
            return
        job_id = f"job-{next(numbers)}"
        with open(f"{ADDRESS}.jobs", "a") as log:
            log.write(json.dumps(request) + "\n")
        jobs[job_id] = subprocess.Popen(
            ["sh", "-c", request["cmd"]],
            cwd=request["workflow_workspace"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.answer(201, {"job_id": job_id})

    def do_GET(self):
        job = jobs.get(self.path.removeprefix("/jobs/"))
        if job is None:
            self.answer(404, {"message": "no such job"})
            return
        status = {None: "running", 0: "finished"}.get(job.poll(), "failed")
        self.answer(200, {"status": status})

    def answer(self, code, document):
        content = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
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
    if job.poll() is None:
        os.killpg(job.pid, signal.SIGKILL)
