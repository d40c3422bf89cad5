"""Every container of the corpus is planned as packtivity 0.17.1 planned it, but for COMPATIBILITY §8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity.handlers.config import ExecutionConfig
from packtivity.runtimes.containers import plan_container
from packtivity.statecontexts import LocalFSState

if TYPE_CHECKING:
    import pytest

    from packtivity.types import Execution


def as_race_spec(execution: Execution) -> dict[str, Any]:
    """Write an execution the way packtivity 0.17.1 did."""
    return {
        "mounts": [
            {
                "type": mount.kind,
                "source": mount.source,
                "destination": mount.destination,
                "readonly": mount.readonly,
                **({"propagation": mount.propagation} if mount.destination.startswith("/cvmfs") else {}),
            }
            for mount in execution.mounts
        ],
        "image": execution.image,
        "workdir": execution.workdir,
        "argv": list(execution.argv),
        "stdin": None if execution.stdin is None else execution.stdin.decode(),
        "tty": execution.tty,
        "env": [{"name": name, "value": value} for name, value in execution.env.items()],
    }


def expected(race_spec: dict[str, Any], environment: dict[str, Any]) -> dict[str, Any]:
    """Put right what COMPATIBILITY §8 and §4 say is wrong upstream."""
    mended = dict(race_spec)
    # `env` is set; upstream ignores it
    mended["env"] = race_spec["env"] + [{"name": k, "value": v} for k, v in environment["env"].items()]
    # an empty script is empty input
    mended["stdin"] = race_spec["stdin"] or None
    return mended


def renderings(corpus: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (spec["id"], render)
        for spec in corpus
        for render in spec["render"] or []
        if (render.get("env") or {}).get("environment_type") == "docker-encapsulated" and render.get("race_spec")
    ]


def test_every_container_spec_is_planned_as_upstream_planned_it(
    corpus: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AUTH_LOCATION", "CVMFS_LOCATION", "CVMFS_SOURCE", "WORKDIR_LOCATION"):
        monkeypatch.delenv(f"PACKTIVITY_{variable}", raising=False)
    workdir = "/the/work dir"
    state, config, different, seen = LocalFSState([workdir]), ExecutionConfig(), [], 0
    for identifier, raw in renderings(corpus):
        render = _placed(raw, workdir)
        seen += 1
        execution = plan_container(render["job"], render["env"], state, config)
        if as_race_spec(execution) != expected(render["race_spec"], render["env"]):
            different.append((identifier, as_race_spec(execution), expected(render["race_spec"], render["env"])))
        for (path, content), (name, wanted) in zip(
            execution.files, (render.get("parmount_files") or {}).items(), strict=True
        ):
            assert path.endswith(name.rpartition("/")[2])
            assert content.decode() == wanted
    assert different == []
    assert seen > 400


def _placed(value: Any, workdir: str) -> Any:
    if isinstance(value, str):
        return value.replace("{WORKDIR}", workdir)
    if isinstance(value, list):
        return [_placed(item, workdir) for item in value]
    if isinstance(value, dict):
        return {_placed(key, workdir): _placed(item, workdir) for key, item in value.items()}
    return value
