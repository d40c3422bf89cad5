"""Settings of Sphinx for these pages."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "packtivity"
author = "The packtivity developers"
copyright = "2026, The packtivity developers"
version = release = installed_version("packtivity")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "generated_reference"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
smartquotes = False  # "--read" is an option, not a dash
exclude_patterns = ["_build", "_generated"]

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = f"packtivity {release}"
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
