"""Sphinx settings of the manual: `nox -s docs`."""

project = "wal-g"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "wal-g"
myst_heading_anchors = 3


def _write_settings(_app: object) -> None:
    """`reference/settings.md` from the declarations of everything that is installed."""
    from pathlib import Path

    from walg_core.settings.describe import reference

    (Path(__file__).parent / "reference" / "settings.md").write_text(reference(), encoding="utf-8")


def setup(app: object) -> None:
    app.connect("builder-inited", _write_settings)  # type: ignore[attr-defined]
