"""`--version`: one line in the original's form, tab-separated."""

from __future__ import annotations

import json
import time
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from walg_core.cli.session import Session


def version_line(session: Session) -> str:
    """`wal-g version VERSION<TAB>GITREV<TAB>BUILDDATE<TAB>DBNAME` (spec/config.md 11), for every script.

    The revision is known when pip installed from a repository; the date is that of the installation.
    """
    engines = session.catalog.engines
    titles = [engines[session.engine].title] if session.engine else [each.title for each in engines.values()]
    try:
        found = distribution("walg-core")
    except PackageNotFoundError:
        return f"wal-g version devel\t-\t-\t{', '.join(titles)}"
    return f"wal-g version {found.version}\t{_revision(found)}\t{_installed(found)}\t{', '.join(titles)}"


def _revision(found: Distribution) -> str:
    try:
        origin = json.loads(found.read_text("direct_url.json") or "{}")
        return str(origin["vcs_info"]["commit_id"])[:7]
    except (KeyError, ValueError, TypeError):
        return "-"


def _installed(found: Distribution) -> str:
    try:
        stamp = Path(str(found.locate_file(""))).joinpath(f"walg_core-{found.version}.dist-info", "METADATA").stat()
    except OSError:
        return "-"
    return time.strftime("%Y.%m.%d_%H:%M:%S", time.gmtime(stamp.st_mtime))
