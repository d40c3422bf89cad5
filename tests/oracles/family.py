"""Runs tasks of the family in containers, with the packtivity of whoever runs this: one line of JSON for each.

    python family.py FOLDER < IMAGES.json

IMAGES says which image stands for which name of a spec. What tasks print goes to standard error.
"""

import json
import logging
import os
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
logging.disable(logging.CRITICAL)

from family import attempt, files, members, normalised

from packtivity.syncbackends import defaultsyncbackend


def outcome(member, folder, images):
    """Return what is published, or the error, and the files of the task."""
    root = folder / member.name
    spec, state = member.load(), member.prepared_state(root)
    environment = spec["environment"]
    image = images[f"{environment['image']}:{environment['imagetag']}"]
    environment["image"], _, environment["imagetag"] = image.rpartition(":")
    state.ensure()
    published = attempt(lambda: defaultsyncbackend().run(spec, member.parameters, state))
    return normalised({"published": published, "files": files(root)}, {str(root): "{ROOT}"})


def main():
    folder, images = Path(sys.argv[1]), json.load(sys.stdin)
    for member in members().values():
        if member.engine:
            answers.write(json.dumps([member.name, outcome(member, folder, images)]) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
