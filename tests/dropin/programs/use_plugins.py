"""Use the plug-in modules the way programs do and print what came of it."""

import glob
import json
import os
import sys

import packtivity
from packtivity import datamodel
from packtivity.backendutils import backend_from_string, load_proxy
from packtivity.plugins import enable_plugins
from packtivity.statecontexts import load_state
from packtivity.syncbackends import defaultsyncbackend, packconfig

place = sys.argv[1]
enable_plugins(["old_handlers", "old_states", "old_backend"])
answers = {}


def state(name):
    made = packtivity.statecontexts.LocalFSState([os.path.join(place, name)])
    made.ensure()
    return made


def lines(*parts):
    with open(os.path.join(place, *parts)) as file:
        return file.read().splitlines()


spec = {
    "process": {"process_type": "string-interpolated-cmd", "cmd": "echo {word} >> {output}"},
    "environment": {"environment_type": "localproc-env"},
    "publisher": {"publisher_type": "frompar-pub", "outputmap": {"out": "output", "both": {"word": "word"}}},
}
parameters = {"word": "hello", "output": "{workdir}/out.txt"}

# The file PACKTIVITY_SYNCCONFIGFILE chooses among implementations.
result = packtivity.pack_object(spec)(parameters, state("chosen"))
answers["chosen"] = [result.json(), lines("chosen", "out.txt"), lines("chosen", "announced.txt")]
answers["impl"] = packconfig().get_impl("process", "string-interpolated-cmd")

# Kinds of handlers that did not exist before.
hosted = {
    "process": {
        "process_type": "interpolated-script-cmd",
        "script": "echo $HOST {word} > out.txt",
        "interpreter": "sh",
    },
    "environment": {"environment_type": "host-env", "envscript": ""},
    "publisher": {"publisher_type": "listing-pub", "pattern": "*.txt"},
}
backend = defaultsyncbackend()
result = backend.run(hosted, datamodel.create({"word": "from", "host": "here"}), state("hosted"), {"name": "hosted"})
answers["hosted"] = [result.json(), lines("hosted", "out.txt"), os.path.isdir(os.path.join(place, "hosted/deep/er"))]

# The handler that PACKTIVITY_LOGGING_HANDLER names has taken the place of the log files.
answers["log"] = [line.split("|")[:2] for line in lines("hosted", "everything.log")][:1]
answers["log files"] = glob.glob(os.path.join(place, "hosted", "_packtivity", "*.log"))

# States of their own: by type, and through the module PACKTIVITY_STATEPROVIDER.
own = load_state({"state_type": "labelled", "label": "mine"})
own.ensure()
answers["own"] = [type(own).__name__, own.json(), own.contextualize_value("{workdir}/x")]
answers["own run"] = packtivity.pack_object(spec)(parameters, own).json()
os.environ["PACKTIVITY_STATEPROVIDER"] = "old_states"
answers["provided"] = [type(load_state(document)).__name__ for document in (own.json(), state("chosen").json())]
del os.environ["PACKTIVITY_STATEPROVIDER"]

# A backend and its proxies.
synchronous, later = backend_from_string("later:2")
proxy = later.submit(spec, datamodel.create(parameters), state("later"), {"name": "later"})
ready = [later.ready(proxy), later.ready(proxy)]
answers["later"] = [synchronous, ready, later.successful(proxy), later.result(proxy).json(), proxy.json()]
again, its_backend = load_proxy(json.loads(json.dumps(proxy.json())))
answers["again"] = [type(again).__name__, again.json(), type(its_backend).__name__]
waited = packtivity.pack_object(spec)(parameters, state("waited"), asyncbackend=later, asyncwait=True)
answers["waited"] = waited.json()

print("ANSWERS" + json.dumps(answers))
