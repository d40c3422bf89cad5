"""A logging handler of somebody's own, named by PACKTIVITY_LOGGING_HANDLER=old_logging:add_handlers."""

import logging
import os

from packtivity.logutils import LOGFORMAT


def add_handlers(log, metadata, state, topic):
    if not (state and state.readwrite):
        return
    log.setLevel(logging.INFO)
    handler = logging.FileHandler(os.path.join(state.readwrite[0], "everything.log"))
    handler.setFormatter(logging.Formatter(LOGFORMAT.replace("%(asctime)s", topic)))
    log.addHandler(handler)
