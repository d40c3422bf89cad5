"""The task that benchmarks run, ``sh -c true``, and where the commands of this interpreter's environment are."""

from __future__ import annotations

import sys
from pathlib import Path

BIN = Path(sys.executable).parent
SPEC = {
    "process": {"process_type": "string-interpolated-cmd", "cmd": "true"},
    "environment": {"environment_type": "localproc-env"},
    "publisher": {"publisher_type": "constant-pub", "publish": {"a": 1}},
}
