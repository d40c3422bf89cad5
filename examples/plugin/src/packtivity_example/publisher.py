"""The publisher ``sha256-pub``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from packtivity.errors import PublishError


def sha256(publisher: dict[str, Any], _parameters: Any, state: Any) -> dict[str, dict[str, str]]:
    """Publish the checksums of files in the work directory.

    :param publisher: ``pattern`` and ``outputkey``.
    :raises PublishError: no file matches.
    """
    workdir = Path(state.readwrite[0])
    files = sorted(path for path in workdir.glob(publisher["pattern"]) if path.is_file())
    if not files:
        raise PublishError(f"sha256-pub: no file in {workdir} matches {publisher['pattern']!r}")
    found = {str(path.relative_to(workdir)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return {publisher["outputkey"]: found}
