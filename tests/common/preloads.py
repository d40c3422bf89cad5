"""Libraries in C that stand before the system's own in a process: other clocks, file systems without locks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def preloadable(folder: Path, name: str, source: str) -> str:
    """Compile a library for ``LD_PRELOAD`` and return its path; the test is skipped where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    code, library = folder / f"{name}.c", folder / f"{name}.so"
    code.write_text(source)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, code, "-ldl"], check=True)
    return str(library)
