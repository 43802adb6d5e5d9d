"""A `Context` for tests, from settings given as a mapping."""

from collections.abc import Mapping
from typing import Any

from walg_core.context import Context
from walg_core.plugins import installed
from walg_core.settings.config import Config


def make_context(settings: Mapping[str, Any], engine: str = "", turbo: bool = False) -> Context:
    """What a command would get that is configured by a file with just these settings. The caller closes it."""
    catalog = installed(frozenset())
    return Context(
        Config(catalog.all_settings(engine or None), file=dict(settings), file_name="test settings"),
        catalog,
        engine=engine,
        turbo=turbo,
    )
