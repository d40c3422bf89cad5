"""Print what the demo published, and where its picture lies.

usage: show_demo.py OUTPUT_DIRECTORY
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(directory: Path) -> None:
    published = {}
    for step in ("generate", "cluster", "histogram"):
        published[step] = json.loads((directory / f"{step}.json").read_text(encoding="utf-8"))
        print(f"\n{step}.yml published")
        print(json.dumps(published[step], indent=2))
    print(f"\nThe picture lies at {published['histogram']['picture']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
