"""A state of somebody's own: a directory that is known by its label. PACKTIVITY_STATEPROVIDER=old_states."""

import os

from packtivity.statecontexts import LocalFSState, stateloader

BASE = os.environ.get("OLD_STATES_BASE", "")


class LabelledState(LocalFSState):
    def __init__(self, label, identifier="labelled"):
        super().__init__(readwrite=[os.path.join(BASE, label)], identifier=identifier)
        self.label = label

    def json(self):
        return {"state_type": "labelled", "label": self.label}

    @classmethod
    def fromJSON(cls, jsondata):
        return cls(jsondata["label"])


@stateloader("labelled")
def labelled_state(jsondata, **opts):
    return LabelledState.fromJSON(jsondata)


def load_state(jsondata):
    return LabelledState(jsondata["label"]) if "label" in jsondata else LocalFSState.fromJSON(jsondata)
