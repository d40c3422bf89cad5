"""Handlers as plug-ins have them: registered by decorator, built on the handlers that are there and on their helpers."""

import glob
import os
import subprocess

from packtivity.handlers.environment_handlers import environment
from packtivity.handlers.execution_handlers import command_argv, executor, script_argv
from packtivity.handlers.execution_handlers import handlers as execution_handlers
from packtivity.handlers.process_handlers import handlers as process_handlers
from packtivity.handlers.process_handlers import process
from packtivity.handlers.publisher_handlers import handlers as publisher_handlers
from packtivity.handlers.publisher_handlers import publisher
from packtivity.logutils import setup_logging_topic
from packtivity.utils import leaf_iterator, mkdir_p


@process("string-interpolated-cmd", "twice")
def twice(process_spec, parameters, state):
    job = process_handlers["string-interpolated-cmd"]["default"](process_spec, parameters, state)
    return {"command": job["command"] + " && " + job["command"]}


@environment("host-env")
def host(environment, parameters, state):
    return {"environment_type": "host-env", "envscript": environment["envscript"], "host": parameters["host"]}


@executor("host-env")
def run_on_host(config, environment, state, job, metadata):
    with setup_logging_topic(config, metadata, state, "step", return_logger=True) as log:
        making = script_argv if "script" in job else command_argv
        argv, content, interactive = making(environment, job, log)
        assert interactive is False
        mkdir_p(os.path.join(state.readwrite[0], "deep", "er"))
        done = subprocess.run(
            argv,
            input=content,
            cwd=state.readwrite[0],
            text=True,
            env={**os.environ, "HOST": environment["host"]},
            check=False,
        )
        log.info("ended with %s", done.returncode)
    if done.returncode:
        raise RuntimeError("failed on host")


@executor("localproc-env", "announced")
def announced(config, environment, state, job, metadata):
    with open(os.path.join(state.readwrite[0], "announced.txt"), "a") as file:
        file.write(metadata["name"] + "\n")
    execution_handlers["localproc-env"]["default"](config, environment, state, job, metadata)


@publisher("listing-pub")
def listing(publisher, parameters, state):
    found = sorted(glob.glob(os.path.join(state.readwrite[0], publisher["pattern"])))
    return {"files": [os.path.basename(file) for file in found], "where": state.readwrite[0]}


@publisher("frompar-pub", "labelled")
def labelled(publisher, parameters, state):
    published = publisher_handlers["frompar-pub"]["default"](publisher, parameters, state)
    leaves = {pointer.path: value for pointer, value in leaf_iterator(publisher["outputmap"])}
    return {**published, "names": leaves}
