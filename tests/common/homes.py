"""A family of images as they are in the field: with a user, a home, an entry point or a work directory of their own."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUSYBOX = Path("/var/lib/packtivity-engines/busybox.tar")
PASSWD = "root:x:0:0:root:/root:/bin/sh\natlas:x:1000:1000:atlas:/home/atlas:/bin/sh\n"
GROUP = "root:x:0:\natlas:x:1000:\n"


@dataclass(frozen=True)
class File:
    """A file or, with ``text`` None, a directory of an image: path without the first slash, text, mode, owner."""

    path: str
    text: str | None = None
    mode: int = 0o755
    owner: int = 0


@dataclass(frozen=True)
class Image:
    """An image of the family.

    :ivar files: what is added to the root file system of the test image; those of all images are added to each.
    :ivar user: user by name or number; empty for root.
    :ivar home: where that user's home is; "/" for a user without an entry in the image's passwd.
    :ivar workdir: where tasks begin.
    """

    files: tuple[File, ...] = ()
    user: str = ""
    uid: int = 0
    home: str = "/root"
    workdir: str = "/analysis"
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()


COMMON = (
    File("etc/passwd", PASSWD, 0o644),
    File("etc/group", GROUP, 0o644),
    File("root", mode=0o700),
    File("root/.software", "for root\n", 0o644),
    File("home/atlas", mode=0o700, owner=1000),
    File("home/atlas/.software", "for atlas\n", 0o644, 1000),
    File("opt/home"),
    File("opt/home/.software", "for all\n", 0o644),
    File("entry.sh", '#!/bin/sh\nexport ENTERED=yes\nexec "$@"\n'),
)


def analysis(owner: int) -> tuple[File, ...]:
    """Return a directory with software in it that the image's user may change."""
    return File("analysis", owner=owner), File("analysis/out", owner=owner), File("analysis/fit", "3\n", 0o644, owner)


IMAGES = {
    "root": Image(analysis(0)),
    "atlas": Image(analysis(1000), "atlas", 1000, "/home/atlas"),
    "number": Image(analysis(4321), "4321", 4321, "/"),
    "entry": Image(analysis(0), entrypoint=("/entry.sh",)),
    "private": Image((File("analysis", mode=0o700, owner=1000), *analysis(1000)[1:]), "atlas", 1000, "/home/atlas"),
    "home": Image(analysis(0), home="/opt/home", env=("HOME=/opt/home",)),
}


def write_rootfs(out: Path, files: tuple[File, ...], *, bare: bool) -> None:
    """Write the root file system of the test image again, with more in it; or, ``bare``, nothing else."""
    replaced = {file.path for file in files}  # an image with two entries of one name is refused
    with tarfile.open(BUSYBOX) as old, tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as new:
        for entry in () if bare else old:
            if entry.name.removeprefix("./") not in replaced:
                new.addfile(entry, old.extractfile(entry) if entry.isreg() else None)
        for file in files:
            entry = tarfile.TarInfo(file.path)
            entry.mode, entry.uid, entry.gid = file.mode, file.owner, file.owner
            if file.text is None:
                entry.type = tarfile.DIRTYPE
                new.addfile(entry)
            else:
                entry.size = len(file.text)
                new.addfile(entry, io.BytesIO(file.text.encode()))


NO_SHELL = Image(workdir="/")
"""An image with nothing but the files of all of them."""


def push(registry: str, folder: Path) -> dict[str, str]:
    """Make the images and push them; return their names. One more is called ``no-shell``."""
    tags = {}
    for name, image in {**IMAGES, "no-shell": NO_SHELL}.items():
        rootfs, archive, tags[name] = (
            folder / f"{name}.tar",
            folder / f"{name}.image.tar",
            f"{registry}/test/{name}:1.0",
        )
        write_rootfs(rootfs, (*COMMON, *image.files), bare=image is NO_SHELL)
        make = [sys.executable, str(ROOT / "tools" / "make_image.py"), str(rootfs), tags[name], str(archive)]
        make += ["--workdir", image.workdir, "--user", image.user]
        make += [f"--env={value}" for value in image.env] + [f"--entrypoint={word}" for word in image.entrypoint]
        subprocess.run([*make, "sh"], check=True)
        copy = [
            "skopeo",
            "copy",
            "-q",
            "--dest-tls-verify=false",
            f"docker-archive:{archive}",
            f"docker://{tags[name]}",
        ]
        subprocess.run(copy, check=True)
    return tags
