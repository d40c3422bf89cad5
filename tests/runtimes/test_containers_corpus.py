"""Every container of the family and of the corpus is planned as packtivity 0.17.1 planned it, without its faults."""

from __future__ import annotations

import logging
import shlex
from typing import TYPE_CHECKING, Any

from family import mended

from packtivity.handlers.config import ExecutionConfig
from packtivity.handlers.execution_handlers import docker_execution_cmdline, race_spec
from packtivity.runtimes.containers import plan_container
from packtivity.statecontexts import LocalFSState

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def renderings(corpus: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (spec["id"], render)
        for spec in corpus
        for render in spec["render"] or []
        if (render.get("env") or {}).get("environment_type") == "docker-encapsulated" and render.get("race_spec")
    ]


def test_every_container_spec_is_planned_as_upstream_planned_it(
    corpus: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in ("AUTH_LOCATION", "CVMFS_LOCATION", "CVMFS_SOURCE", "WORKDIR_LOCATION"):
        monkeypatch.delenv(f"PACKTIVITY_{variable}", raising=False)
    workdir, log = str(tmp_path / "work dir"), logging.getLogger("test")
    (tmp_path / "work dir").mkdir()
    state, config, different, seen = LocalFSState([workdir]), ExecutionConfig(), [], 0
    for identifier, raw in renderings(corpus):
        render = _placed(raw, workdir)
        seen += 1
        execution = plan_container(render["job"], render["env"], state, config)
        seen_as = race_spec(config, state, render["env"], log, render["job"])
        if seen_as != mended(render["race_spec"], render["env"]):
            different.append((identifier, seen_as, mended(render["race_spec"], render["env"])))
        for (path, content), (name, wanted) in zip(
            execution.files, (render.get("parmount_files") or {}).items(), strict=True
        ):
            assert path.endswith(name.rpartition("/")[2])
            assert content.decode() == wanted
    assert different == []
    assert seen == len(renderings(corpus)) > 40


def _placed(value: Any, workdir: str) -> Any:
    if isinstance(value, str):
        return value.replace("{WORKDIR}", workdir)
    if isinstance(value, list):
        return [_placed(item, workdir) for item in value]
    if isinstance(value, dict):
        return {_placed(key, workdir): _placed(item, workdir) for key, item in value.items()}
    return value


def test_the_line_for_docker_can_be_split_again(tmp_path: Path) -> None:
    state, config, log = LocalFSState([str(tmp_path)]), ExecutionConfig(), logging.getLogger("test")
    environment = {"environment_type": "docker-encapsulated", "image": "a", "imagetag": "1", "env": {"A": "b 'c'"}}
    spec = race_spec(config, state, environment, log, {"command": "echo 'x y'"})
    words = shlex.split(docker_execution_cmdline(config, state, log, {"name": "step"}, spec))
    assert words[:5] == ["docker", "run", "--rm", "--cidfile", f"{tmp_path}/_packtivity/step.cid"]
    assert words[-4:] == ["a:1", "sh", "-c", "echo 'x y'"]
    assert "A=b 'c'" in words
