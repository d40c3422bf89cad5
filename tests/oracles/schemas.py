"""Answers documents of tests/spec/test_schema_differential.py with yadage-schemas 0.11.1: one line of JSON each."""

import json
import sys

from jsonschema import Draft4Validator
from yadageschemas import schemadir
from yadageschemas.dialects.raw_with_defaults import DefaultValidatingDraft4Validator
from yadageschemas.utils import schema_and_refresolver

schema, resolver = schema_and_refresolver("packtivity/packtivity-schema", schemadir)
filling = DefaultValidatingDraft4Validator(schema, resolver=resolver)
plain = Draft4Validator(schema, resolver=resolver)
for line in sys.stdin:
    data = json.loads(line)
    filling.validate(data)
    print(json.dumps({"valid": plain.is_valid(data), "loaded": data}), flush=True)
