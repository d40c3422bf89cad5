"""The specs of ``tests/family``, and what the packtivity that can be imported makes of them.

packtivity 0.17.1 imports this as well (``tests/family/record.py``), so it asks for nothing that only one of them has.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

FAMILY = Path(__file__).resolve().parents[1] / "family"
SPECS = FAMILY / "specs"
RECORDED = FAMILY / "recorded"
WORK = {"readwrite": ["work"]}
STAGES = ("finalized", "prepublish", "job", "env", "race_spec", "docker_cmdline")


@dataclass(frozen=True)
class Member:
    """A spec, and a task made of it; ``members.yml`` says what the fields mean."""

    name: str
    spec: str
    parameters: Any = field(default_factory=dict)
    toplevel: str = ""
    state: Any = field(default_factory=lambda: WORK)
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    engine: bool = False

    def load(self) -> Any:
        """Return the loaded spec."""
        from packtivity import load_packtivity

        return load_packtivity(self.spec, toplevel=str(SPECS / self.toplevel))

    def readonly(self) -> list[str]:
        """Return the directories that may only be read, as recordings name them."""
        states = [self.state or {}, *(self.state or {}).get("dependencies", [])]
        given = [one for state in states for one in state.get("readonly", [])]
        given += [one for state in states[1:] for one in state.get("readwrite", [])]
        return [f"{{ROOT}}/{one['path'] if isinstance(one, dict) else one}" for one in given]

    def prepared_state(self, root: Path) -> Any:
        """Make the directories and inputs of the task below ``root``, and return its state."""
        from packtivity.statecontexts import LocalFSState

        _write(root, self.inputs)
        if self.state is None:
            return None

        def located(given: Any) -> Any:
            path = root / (given["path"] if isinstance(given, dict) else given)
            path.mkdir(parents=True, exist_ok=True)
            return {**given, "path": str(path)} if isinstance(given, dict) else str(path)

        def state(document: dict[str, Any], **more: Any) -> Any:
            directories = {kind: [located(one) for one in document.get(kind, [])] for kind in ("readwrite", "readonly")}
            return LocalFSState(**directories, **more)

        dependencies = [state(one) for one in self.state.get("dependencies", [])]
        return state(self.state, **({"dependencies": dependencies} if dependencies else {}))


def members() -> dict[str, Member]:
    """Return the members by name."""
    entries = yaml.safe_load((FAMILY / "members.yml").read_text("utf-8"))
    return {name: Member(name, **entry) for name, entry in entries.items()}


def recorded(name: str) -> dict[str, Any]:
    """Return what packtivity 0.17.1 made of a member."""
    return dict(json.loads((RECORDED / f"{name}.json").read_text("utf-8")))


def differences() -> dict[str, dict[str, Any]]:
    """Return, by member, the stages that differ here on purpose, with what comes out here."""
    listed = json.loads((FAMILY / "differences.json").read_text("utf-8"))
    return {entry["member"]: entry["here"] for entry in listed}


def rows() -> list[dict[str, Any]]:
    """Return the family in the form that the corpus of real specs has, with the answers that count here."""
    found = ((member, {**recorded(name), **differences().get(name, {})}) for name, member in members().items())
    return [_row(member.name, document, member) for member, document in found if "written" in document]


def _row(name: str, document: dict[str, Any], member: Member) -> dict[str, Any]:
    valid = "error" not in document["loaded"]
    return {
        "id": name,
        "spec": document["written"],
        "valid": valid,
        "reason": "" if valid else document["loaded"].get("message", ""),
        "loaded": document["loaded"] if valid else None,
        # The corpus has tasks with something to run and one directory only.
        "render": [_render(document, member.parameters)]
        if valid and "env" in document and member.state == WORK
        else [],
    }


def _render(document: dict[str, Any], parameters: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"parameters": parameters}
    for stage in STAGES:
        value = document.get(stage)
        if isinstance(value, dict) and "error" in value:
            found[f"{stage}_error"] = f"{value['error'][0]}: {value.get('message', '')}"
        elif stage in document:
            found[stage] = value
    mounts = (found.get("env") or {}).get("par_mounts") or []
    found["parmount_files"] = {f"_yadage_parmount_{n}.txt": one["mountcontent"] for n, one in enumerate(mounts)}
    return found


def mended(race_spec: dict[str, Any], environment: dict[str, Any], readonly: Sequence[str] = ()) -> dict[str, Any]:
    """Return what packtivity 0.17.1 would run in a container, without the faults that are mended here."""
    changed = dict(race_spec)
    # `env` is set; the original ignores it
    changed["env"] = race_spec["env"] + [{"name": k, "value": v} for k, v in environment["env"].items()]
    # an empty script is empty input
    changed["stdin"] = race_spec["stdin"] or None
    # what may only be read cannot be written, and credentials are only read
    readonly = (*readonly, "/recast_auth")
    changed["mounts"] = [
        {**mount, "readonly": mount["readonly"] or mount["destination"] in readonly} for mount in race_spec["mounts"]
    ]
    return changed


# --- what becomes of a member ------------------------------------------------------------------------------------


def made_of(member: Member, root: Path) -> dict[str, Any]:
    """Load, render and publish a member, and run it where no container is needed.

    :param root: directory of the task; it is emptied.
    :returns: one value for each stage, or ``{error, message}``; ``{WORKDIR}`` stands for the work directory, and
        ``{ROOT}`` for ``root``.
    """
    root = Path(os.path.realpath(root))
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    found: dict[str, Any] = {"loaded": attempt(member.load)}
    if "error" not in found["loaded"]:
        found |= _rendered(found["loaded"], member, root)
        found |= _published(found["loaded"], member, root)
    first = ((member.state or {}).get("readwrite") or ["work"])[0]
    return dict(normalised(found, {str(root / first): "{WORKDIR}", str(root): "{ROOT}", str(SPECS): "{SPECS}"}))


def normalised(document: Any, names: dict[str, str]) -> Any:
    """Return a document with names in place of paths."""
    text = json.dumps(document)
    for path, name in names.items():
        text = text.replace(path, name)
    return json.loads(text)


def attempt(make: Any) -> Any:
    """Return what comes out as plain JSON, or the names of the classes of the error with what it says."""
    try:
        found = make()
        return json.loads(json.dumps(found.json() if hasattr(found, "json") else found))
    except Exception as error:
        names = [cls.__name__ for cls in type(error).__mro__ if cls not in (Exception, BaseException, object)]
        message = getattr(error, "message", str(error))
        return {"error": names or ["Exception"], "message": str(message)}


def _rendered(spec: Any, member: Member, root: Path) -> dict[str, Any]:
    from packtivity.syncbackends import build_env, build_job, finalize_inputs, packconfig, prepublish

    state, config = member.prepared_state(root), packconfig()
    found = {
        "prepublish": attempt(lambda: prepublish(spec, member.parameters, state, config)),
        "finalized": attempt(lambda: finalize_inputs(member.parameters, state)[0]),
    }
    if _failed(found["finalized"]) or not spec["process"] or not spec["environment"]:
        return found
    final = finalize_inputs(member.parameters, state)[0]
    found["job"] = attempt(lambda: build_job(spec["process"], final, state, config))
    found["env"] = attempt(lambda: build_env(spec["environment"], final, state, config))
    if is_container(spec) and not _failed(found["job"]) and not _failed(found["env"]):
        found |= _container(found["job"], found["env"], state)
    return found


def _failed(value: Any) -> bool:
    return isinstance(value, dict) and "error" in value and "message" in value


def is_container(spec: Any) -> bool:
    return (spec["environment"] or {}).get("environment_type") == "docker-encapsulated"


def _container(job: Any, env: Any, state: Any) -> dict[str, Any]:
    from packtivity.handlers.execution_handlers import docker_execution_cmdline, race_spec
    from packtivity.syncbackends import ExecutionConfig

    config, log = ExecutionConfig(), logging.getLogger("family")
    spec = attempt(lambda: race_spec(config, state, env, log, job))
    line = attempt(lambda: docker_execution_cmdline(config, state, log, {"name": "step"}, spec))
    return {"race_spec": spec, "docker_cmdline": line}


def _published(spec: Any, member: Member, root: Path) -> dict[str, Any]:
    """Publish as if a container had made the outputs, or run the task; where it runs, say what files there are."""
    from packtivity.syncbackends import defaultsyncbackend, finalize_inputs, packconfig, publish

    state = member.prepared_state(root)
    if is_container(spec):
        _write(root, member.outputs)
        final = attempt(lambda: finalize_inputs(member.parameters, state)[0])
        if _failed(final):
            return {}
        final = finalize_inputs(member.parameters, state)[0]
        return {"published": attempt(lambda: publish(spec["publisher"], final, state, packconfig()))}
    if state and state.readwrite:
        state.ensure()
    published = attempt(lambda: defaultsyncbackend().run(spec, member.parameters, state))
    return {"published": published, "files": files(root)}


def docker_line(line: str) -> dict[str, Any]:
    """Return what a ``docker run`` line asks for, however its options are spelt."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag in ("--rm", "--init", "-i", "-t"):
        parser.add_argument(flag, action="store_true")
    for option in ("-w", "--workdir"):
        parser.add_argument(option, dest="workdir")
    parser.add_argument("--cidfile")
    parser.add_argument("--user")
    for name, options in {"env": ("-e", "--env"), "volume": ("-v",), "mount": ("--mount",)}.items():
        parser.add_argument(*options, dest=name, action="append", default=[])
    parser.add_argument("command", nargs=argparse.REMAINDER)
    found = parser.parse_args(shlex.split(line)[2:])
    volumes = [(*volume.split(":")[:2], volume.split(":")[2].startswith("ro")) for volume in found.volume]
    mounts = [dict(part.partition("=")[::2] for part in mount.split(",")) for mount in found.mount]
    volumes += [(one["source"], one["destination"], "readonly" in one) for one in mounts]
    return {
        "stdin": found.i,
        "terminal": found.t,
        "workdir": found.workdir,
        "cidfile": found.cidfile,
        "env": dict(entry.split("=", 1) for entry in found.env),
        "mounts": sorted(volumes),
        "command": found.command,
    }


def files(root: Path) -> dict[str, str]:
    """Return the text of each file below a directory that is no log or other file of packtivity's own."""
    found = sorted(path for path in root.rglob("*") if path.is_file() and "_packtivity" not in path.parts)
    return {str(path.relative_to(root)): path.read_text("utf-8") for path in found if "_yadage_" not in path.name}


def _write(root: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
