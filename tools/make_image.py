"""Wrap a root file system as the archive that ``docker load``, ``podman load`` and ``skopeo`` read.

The same tree gives the same bytes, so an image keeps its digest from machine to machine:

    python tools/make_image.py ROOTFS.tar NAME:TAG OUT.tar [--workdir DIR] [--user USER] [--env NAME=VALUE] [--entrypoint WORD] CMD...
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import tarfile

EPOCH = "2023-11-14T22:13:20Z"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def image_config(layer: str, options: argparse.Namespace) -> bytes:
    """Return the image's configuration document."""
    config = {"Cmd": options.cmd, "Env": [PATH, *options.env], "WorkingDir": options.workdir, "User": options.user}
    config["Entrypoint"] = options.entrypoint
    document = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "created": EPOCH,
        "config": {key: value for key, value in config.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
        "history": [{"created": EPOCH, "created_by": "packtivity tools/make_image.py"}],
    }
    return json.dumps(document, sort_keys=True).encode()


def write(out: str, rootfs: str, tag: str, config: bytes) -> None:
    """Write the archive at once: a half-written one never carries the final name."""
    name = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{name}.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
    with tarfile.open(f"{out}.new", "w", format=tarfile.USTAR_FORMAT) as archive:
        for member, data in ((f"{name}.json", config), ("manifest.json", json.dumps(manifest).encode())):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("layer.tar")
        info.size = os.path.getsize(rootfs)
        with open(rootfs, "rb") as layer:
            archive.addfile(info, layer)
    os.replace(f"{out}.new", out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("rootfs", "tag", "out"):
        parser.add_argument(name)
    parser.add_argument("--workdir", default="")
    parser.add_argument("--user", default="")
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--entrypoint", action="append", default=[])
    parser.add_argument("cmd", nargs="*")
    options = parser.parse_intermixed_args()
    write(options.out, options.rootfs, options.tag, image_config(sha256(options.rootfs), options))


if __name__ == "__main__":
    main()
