"""The steps of a task and the backend that runs it here, under the names of upstream 0.17.1."""

from packtivity.backends.base import defaultsyncbackend
from packtivity.handlers.config import ExecutionConfig, container_config, packconfig
from packtivity.task import (
    acquire_job_env,
    build_env,
    build_job,
    finalize_inputs,
    finalize_outputs,
    prepublish,
    publish,
    run_in_env,
    run_packtivity,
)

__all__ = [
    "ExecutionConfig",
    "acquire_job_env",
    "build_env",
    "build_job",
    "container_config",
    "defaultsyncbackend",
    "finalize_inputs",
    "finalize_outputs",
    "packconfig",
    "prepublish",
    "publish",
    "run_in_env",
    "run_packtivity",
]
