"""Runs under packtivity 0.17.1: reads one JSON request a line, answers each with one line.

``{"text": T}`` asks what its YAML reading and JSON writing make of a text; ``{"spec": S, "toplevel": D}`` what its
loader makes of a file and its references, before defaults are filled. The answer is ``{"data": …}`` or ``{"error": …}``.
"""

from __future__ import annotations

import json
import logging
import sys

import yaml
from yadageschemas.dialects.raw_with_defaults import loader

logging.disable(logging.CRITICAL)


def resolved(reference):
    """Upstream's own way of writing can do this for mappings only."""
    return reference.__subject__


def answer(request):
    try:
        if "text" in request:
            data = yaml.safe_load(request["text"])
        else:
            data = loader(request["toplevel"])(request["spec"], True)
        return {"data": json.loads(json.dumps(data, default=resolved))}
    except (Exception, RecursionError) as error:  # whatever it fails with is the answer
        return {"error": f"{type(error).__name__}: {error}"[:300]}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
