"""The names that plug-ins written for upstream 0.17.1 import to run containers in their own way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packtivity.types import Execution, Mount

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packtivity.types import JSON


def race_spec(config: Any, state: Any, environment: Mapping[str, Any], log: Any, job: JSON) -> dict[str, Any]:
    """Return what is to be run, as upstream 0.17.1 described it; files for ``par_mounts`` are written.

    :returns: ``{mounts, image, workdir, argv, stdin, tty, env}``.
    """
    from packtivity.runtimes.plan import plan_container
    from packtivity.runtimes.supervise import write_files

    execution = plan_container(job, environment, state, config)
    write_files(execution)
    log.debug("container image: %s", execution.image)
    return {
        "mounts": [_mount(mount) for mount in execution.mounts],
        "image": execution.image,
        "workdir": execution.workdir,
        "argv": list(execution.argv),
        "stdin": None if execution.stdin is None else execution.stdin.decode("utf-8", "surrogateescape"),
        "tty": execution.tty,
        "env": [{"name": name, "value": value} for name, value in execution.env.items()],
    }


def _mount(mount: Mount) -> dict[str, Any]:
    document = {
        "type": mount.kind,
        "source": mount.source,
        "destination": mount.destination,
        "readonly": mount.readonly,
    }
    return {**document, "propagation": mount.propagation} if mount.destination.startswith("/cvmfs") else document


def docker_execution_cmdline(
    config: Any, state: Any, log: Any, metadata: Mapping[str, Any], race_spec: Mapping[str, Any]
) -> str:
    """Return the ``docker run …`` line for a :func:`race_spec`, quoted so that a shell can split it again."""
    import os
    import shlex

    from packtivity.logfiles import safe_name
    from packtivity.runtimes.base import Launch
    from packtivity.runtimes.choose import named
    from packtivity.runtimes.plan import options

    stdin = race_spec["stdin"]
    execution = Execution(
        argv=tuple(race_spec["argv"]),
        stdin=stdin.encode("utf-8", "surrogateescape") if stdin else None,
        workdir=race_spec["workdir"],
        env={entry["name"]: entry["value"] for entry in race_spec.get("env", ())},
        image=race_spec["image"],
        mounts=tuple(
            Mount(m["source"], m["destination"], m["readonly"], m["type"], m.get("propagation"))
            for m in race_spec["mounts"]
        ),
        tty=race_spec["tty"],
        options=options(config.container_config),
    )
    cidfile = f"{state.metadir}/{safe_name(metadata)}.cid"
    if os.path.exists(cidfile):
        log.warning("cid file %s is there already, and docker will refuse to write it", cidfile)
    return shlex.join(named("docker").run_argv(execution, Launch(race_spec["image"], cidfile=cidfile)))
