"""Record what packtivity 0.17.1 makes of each member of the family, in ``recorded/NAME.json``.

    .oracle/bin/python tests/family/record.py [FOLDER [NAME...]]

The same comes out each time, on any machine, so a change of a spec shows as a difference. FOLDER gets the recordings
in place of ``recorded``, of the members that are named or of all.
"""

from __future__ import annotations

import json
import logging
import os
import runpy
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "common"))
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

runpy.run_path(str(HERE.parent / "dropin" / "sorted_listings" / "sitecustomize.py"))  # before glob2 takes its listing

from family import RECORDED, SPECS, Member, attempt, made_of, members, normalised


def written(member: Member) -> dict[str, object]:
    """Return the spec with its references resolved and no default filled; nothing when that fails."""
    from yadageschemas.dialects.raw_with_defaults import loader

    def load() -> object:
        data = loader(str(SPECS / member.toplevel))(member.spec, True)
        return json.loads(json.dumps(data, default=lambda reference: reference.__subject__))

    found = attempt(load)
    return {} if "error" in found else {"written": found}


def main() -> None:
    """Write a file for each member, and remove those of members that are no more."""
    if version("packtivity") != "0.17.1":
        sys.exit(f"run this with packtivity 0.17.1, not {version('packtivity')}: .oracle/bin/python {sys.argv[0]}")
    for name in [name for name in os.environ if name.startswith("PACKTIVITY_")]:
        del os.environ[name]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # nobody is there to be asked
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # tasks print there
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDED
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.json"):
        path.unlink()
    with tempfile.TemporaryDirectory(prefix="family-") as scratch:
        for name, member in members().items():
            if sys.argv[2:] and name not in sys.argv[2:]:
                continue
            document = {**written(member), **made_of(member, Path(scratch) / name)}
            text = json.dumps(normalised(document, {str(SPECS): "{SPECS}"}), indent=2, ensure_ascii=False)
            (folder / f"{name}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
