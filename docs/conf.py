"""Sphinx settings of the manual: `nox -s docs`."""

project = "wal-g"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "wal-g"
myst_heading_anchors = 3


def _write_reference(_app: object) -> None:
    """The reference of settings, from the declarations of everything that is installed, and that of hooks."""
    from pathlib import Path

    from walg_core.discovery import describe_hooks
    from walg_core.settings.describe import reference

    pages = Path(__file__).parent / "reference"
    (pages / "settings.md").write_text(reference(), encoding="utf-8")
    (pages / "hooks.md").write_text(describe_hooks(), encoding="utf-8")


def setup(app: object) -> None:
    app.connect("builder-inited", _write_reference)  # type: ignore[attr-defined]
