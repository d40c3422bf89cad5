"""Submit tasks in one call: to a backend that takes batches, and to one that does not."""

import json
import sys

from yadage.backends.packtivitybackend import PacktivityBackend
from yadage.tasks import packtivity_task

from packtivity.asyncbackends import ForegroundBackend
from packtivity.statecontexts import LocalFSState

sizes = []


class Batching(ForegroundBackend):
    """Notes how much it was given at once."""

    def batch_submit(self, specs, parameters, states, metadata):
        sizes.append(len(specs))
        return [self.submit(*each) for each in zip(specs, parameters, states, metadata, strict=True)]


def tasks():
    spec = {
        "process": {"process_type": "string-interpolated-cmd", "cmd": "echo {n} > {output}"},
        "environment": {"environment_type": "localproc-env"},
        "publisher": {"publisher_type": "frompar-pub", "outputmap": {"output": "output", "n": "n"}},
    }
    for number in range(3):
        state = LocalFSState([f"{sys.argv[1]}/task{number}"])
        state.ensure()
        task = packtivity_task(f"task{number}", spec, state, {"n": number, "output": "{workdir}/out.txt"})
        task.metadata["wflow_hints"] = {"is_purepub": False}
        yield task


batching = PacktivityBackend(packtivity_backend=Batching(), backendopts={})
proxies = batching.batch_submit(list(tasks()))
try:
    PacktivityBackend(packtivity_backendstring="foregroundasync", backendopts={}).batch_submit(list(tasks()))
    refused = None
except Exception as error:
    refused = type(error).__name__
print(
    json.dumps(
        {
            "sizes": sizes,
            "results": [batching.result(proxy).json() for proxy in proxies],
            "successful": [bool(batching.successful(proxy)) for proxy in proxies],
            "refused": refused,
        }
    )
)
