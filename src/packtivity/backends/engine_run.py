"""What an engine of an ipyparallel cluster does with a task; what crosses to it is :data:`RUN` and JSON text."""

from __future__ import annotations

import json

from packtivity.backends.ticket import Ticket
from packtivity.worker import run_envelope


class _Run:
    """Runs a task document; an object, because of a function ipyparallel sends the code."""

    def __call__(self, text: str) -> str:
        """Run ``{"record", "task"}`` and return its answer with its id; both ways JSON text."""
        errand = json.loads(text)
        told = run_envelope(errand)
        Ticket(errand["record"]).remove()
        return json.dumps({**told, "id": errand["task"]["id"]}, default=str)


RUN = _Run()
