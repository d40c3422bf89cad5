"""Run a workflow as an analysis platform's engine does, which calls yadage itself: platform_engine.py TOPLEVEL PARAMETERS.

The workflow comes as one JSON document, the backend from the environment, and the workspace is everybody's.
"""

import json
import os
import sys

import yadageschemas
import yaml
from analysis_platform import WORKSPACE, Tracker
from yadage.steering_api import steering_ctx
from yadage.utils import setupbackend_fromstring

SCHEMA = "yadage/workflow-schema"

toplevel, parameters = sys.argv[1:]
loaded = yadageschemas.load(
    spec="workflow.yml",
    specopts={"toplevel": toplevel, "load_as_ref": False, "schema_name": SCHEMA, "schemadir": None},
    validopts={"schema_name": SCHEMA, "schemadir": None},
)
os.umask(0o002)
with open(parameters) as file:
    given = yaml.safe_load(file)

with steering_ctx(
    dataarg=os.environ[WORKSPACE],
    dataopts={"initdir": os.environ[WORKSPACE]},
    initdata=given,
    visualize=False,
    updateinterval=0.01,
    loginterval=30,
    backend=setupbackend_fromstring("fromenv"),
    accept_metadir=True,
    workflow_json=json.loads(json.dumps(loaded)),
) as steering:
    steering.adage_argument(additional_trackers=[Tracker()])
