"""Runs programs as copies of this process, which has imported what they need: one JSON document a line, each way.

python forks.py MODULE...
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys


def become(order: dict) -> None:
    """Be the program that is asked for: a script of this environment, or code."""
    for number, path in enumerate((os.devnull, order["out"], order["err"])):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY
        os.dup2(os.open(path, flags, 0o644), number)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.argv = order["argv"]
    if order["code"]:
        sys.path.insert(0, "")
        exec(compile(order["code"], "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


for name in sys.argv[1:]:
    importlib.import_module(name)
for line in sys.stdin:
    child = os.fork()
    if not child:
        become(json.loads(line))
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
