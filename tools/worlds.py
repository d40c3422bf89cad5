"""Make the environments other programs run in, with this package beside them: python tools/worlds.py yadage …

A world is a file tests/worlds/NAME.txt. It is installed first as its users have it, with the original package; then this
tree is installed into it, and nothing but the original may change. NAME:original is the same world before that step.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ROOT / "tests" / "worlds"
HOME = ROOT / ".worlds"


def names() -> list[str]:
    return sorted(file.stem for file in FILES.glob("*.txt"))


def folder(world: str, version: str) -> Path:
    return HOME / f"{world.replace(':', '-')}-{version}"


def version_of(python: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def digest(world: str) -> str:
    """Return what a finished environment was made of; another one has to be made when it changes."""
    parts = [(FILES / f"{world.partition(':')[0]}.txt").read_bytes(), Path(__file__).read_bytes()]
    if ":" not in world:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        parts.append(json.dumps([str(ROOT), project["dependencies"], project["scripts"]]).encode())
    return hashlib.sha256(b"".join(parts)).hexdigest()


def pip(environment: Path, *arguments: str) -> str:
    command = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def installed(environment: Path) -> dict[str, str]:
    found = json.loads(pip(environment, "list", "--format=json"))
    return {each["name"].lower(): each["version"] for each in found}


def make(world: str, python: str) -> Path:
    """Make a world unless it is there, and return where."""
    environment = folder(world, version_of(python))
    stamp = environment / "stamp"
    if stamp.exists() and stamp.read_text() == digest(world):
        return environment
    name, _, original = world.partition(":")
    subprocess.run([python, "-m", "venv", "--clear", str(environment)], check=True)
    pip(environment, "install", "--quiet", "-r", str(FILES / f"{name}.txt"))
    before = installed(environment)
    if not original:
        pip(environment, "install", "--quiet", "--editable", str(ROOT))
        hold_unchanged(world, before, installed(environment))
    print(f"{environment.relative_to(ROOT)}: {pip(environment, 'check').strip()}")
    (environment / "installed.json").write_text(json.dumps(installed(environment), indent=1))
    stamp.write_text(digest(world))
    return environment


def hold_unchanged(world: str, before: dict[str, str], after: dict[str, str]) -> None:
    """End with a message when installing this package has changed another one."""
    changed = {name: (old, after.get(name)) for name, old in before.items() if name != "packtivity"}
    changed = {name: versions for name, versions in changed.items() if versions[0] != versions[1]}
    if changed or after["packtivity"] == before["packtivity"]:
        sys.exit(f"{world}: installing this package changed {changed or 'nothing, not even the original'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("worlds", nargs="+", metavar="WORLD", help=f"one of {', '.join(names())}; or WORLD:original")
    parser.add_argument("--python", default=sys.executable, help="interpreter to make it with")
    options = parser.parse_args()
    os.environ.pop("PYTHONPATH", None)
    for world in options.worlds:
        if world.partition(":")[0] not in names():
            parser.error(f"no world is called {world}; there are {', '.join(names())}")
        make(world, options.python)


if __name__ == "__main__":
    main()
