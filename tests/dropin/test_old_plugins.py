"""Plug-in modules that were written for the original do the same here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).resolve().parent


@pytest.fixture
def settings(tmp_path):
    chosen = tmp_path / "chosen.yml"
    chosen.write_text(
        yaml.safe_dump(
            {
                "process": {"string-interpolated-cmd": "twice"},
                "executor": {"localproc-env": "announced"},
                "publisher": {"frompar-pub": "labelled"},
            }
        )
    )
    return {
        "PYTHONPATH": str(HERE / "plugins"),
        "PACKTIVITY_SYNCCONFIGFILE": str(chosen),
        "PACKTIVITY_LOGGING_HANDLER": "old_logging:add_handlers",
        "OLD_STATES_BASE": str(tmp_path),
    }


def answers(engine, place, settings):
    place.mkdir()
    done = engine.script([HERE / "programs" / "use_plugins.py", place], **settings, OLD_STATES_BASE=str(place))
    assert done.returncode == 0, done.stdout + done.stderr
    _, _, found = done.stdout.partition("ANSWERS")
    return json.loads(found.replace(str(place), "PLACE"))


def test_handlers_states_logging_and_backends_of_plug_ins(ours, original, settings, tmp_path, differences):
    del settings["OLD_STATES_BASE"]
    expected = answers(original, tmp_path / "theirs", settings)
    found = answers(ours, tmp_path / "ours", settings)
    assert differences(found, expected) == []
    assert found["chosen"][1:] == [["hello", "hello"], ["packtivity_syncbackend"]]
    assert found["hosted"][1] == ["here from"]


def test_yadage_uses_them(ours, workflow, originally, differences, settings):
    options = {"PYTHONPATH": settings["PYTHONPATH"], "PACKTIVITY_PLUGINS": "old_handlers"}
    expected, files = originally(workflow("nested"))

    found = ours.run(workflow("nested"), "later:2", "--plugins", "old_backend", **options)

    assert found.returncode == 0, found.log
    assert found.proxies() == {"LaterProxy"}
    assert found.files() == files
    for document in (account := found.document(proxies=True)), expected:
        for node in document["dag"]["nodes"]:
            del node["proxy"]
    assert differences(account, expected) == []


def test_yadage_runs_what_the_configuration_file_chooses(ours, workflow, settings):
    found = ours.run(workflow("mapreduce"), "foregroundasync", "--plugins", "old_handlers", **settings)
    assert found.returncode == 0, found.log
    assert (found.folder / "map_0" / "announced.txt").read_text() == "map_0\n"
    assert found.results()["/map/0"]["names"] == {"/square": "output"}
