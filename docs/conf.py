"""Sphinx settings of the manual: `nox -s docs`."""

project = "wal-g"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "wal-g"
myst_heading_anchors = 3
