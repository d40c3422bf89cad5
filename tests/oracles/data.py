"""Run by the original's interpreter: answers what its data model, states and globs do."""

import json
import os
import sys

import glob2
import jsonpointer

from packtivity import datamodel
from packtivity.datamodels.purejson import PureJsonModel
from packtivity.statecontexts.posixfs_context import LocalFSState
from packtivity.typedleafs import TypedLeafs
from packtivity.utils import leaf_iterator

CLASSES = {"typedleafs": TypedLeafs, "purejson": PureJsonModel}


class Point:
    def __init__(self, x):
        self.x = x

    @classmethod
    def fromJSON(cls, data):
        return cls(data["x"])

    def json(self):
        return {"x": self.x}

    def __repr__(self):
        return f"Point({self.x!r})"


def parse_literal(text):
    return {"$type": "Point", "x": text.split(":", 1)[1]}


MODEL = {
    "keyword": "$type",
    "types": {"Point": Point},
    "literals": {"magics": ["pt:"], "parser": "__main__:parse_literal"},
}


def text(value):
    return json.dumps(value, default=lambda value: {"object": repr(value)})


def document(question):
    return CLASSES[question.get("kind", "typedleafs")](question["data"], MODEL if question.get("model") else None)


def everything(question):
    doc = document(question)
    return {
        "json": text(doc.json()),
        "typed": text(doc.typed()),
        "repr": repr(doc),
        "leafs": [[pointer.path, text(value)] for pointer, value in doc.leafs()],
        "copy": text(doc.copy().json()),
        "asrefs": text(doc.asrefs(lambda pointer: pointer.path)),
    }


def replace(question):
    doc = document(question)
    doc.replace(jsonpointer.JsonPointer(question["pointer"]), question["value"])
    return [text(doc.json()), text(doc.typed())]


def jq(question):
    options = {key: question[key] for key in ("multiple_output", "text_output") if key in question}
    return text(document(question).jq(question["program"], **options).json())


def jsonpath(question):
    return text(document(question).jsonpath(question["expression"], question["multiple"]))


def leaves(question):
    return [[pointer.path, value] for pointer, value in leaf_iterator(question["data"])]


def state(question):
    made = LocalFSState(**question["arguments"])
    return {"json": made.json(), "dirnames": made.dirnames}


def state_hash(question):
    return LocalFSState(**question["arguments"]).state_hash()


def contextualise(question):
    return LocalFSState(**question["arguments"]).contextualize_value(question["value"])


def model(question):
    doc = datamodel.create(question["data"])
    return text(LocalFSState(**question["arguments"]).model(doc).json())


def glob(question):
    os.chdir(question["directory"])
    return sorted(glob2.glob(question["pattern"]))


OPERATIONS = (everything, replace, jq, jsonpath, leaves, state, state_hash, contextualise, model, glob)
BY_NAME = {operation.__name__: operation for operation in OPERATIONS}

for line in sys.stdin:
    asked = json.loads(line)
    try:
        answer = BY_NAME[asked.pop("operation")](asked)
    except (Exception, StopIteration) as error:
        answer = {"error": type(error).__name__}
    print(json.dumps(answer), flush=True)
