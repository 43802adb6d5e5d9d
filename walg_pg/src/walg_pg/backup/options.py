"""What one backup-push is asked to do, from its flags and their settings (spec/postgres-backup.md 2, 4)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from walg_core.backups.gojson import user_data
from walg_core.context import Context
from walg_core.errors import UsageError
from walg_core.settings.config import Config

Composer = Literal["regular", "rating", "copy", "database"]


@dataclass(slots=True, kw_only=True)
class PushOptions:
    """`directory` None: remote backup. `user_data` is the JSON value, None for none."""

    directory: str | None = None
    permanent: bool = False
    full: bool = False
    verify: bool = False
    store_all_corrupt: bool = False
    fail_on_corruption: bool = False
    composer: Composer = "regular"
    delta_from_user_data: str = ""
    delta_from_name: str = ""
    user_data: Any = None
    files_metadata: bool = True
    target_storage: str = ""


def composer_of(config: Config, *, rating: bool, copy: bool, database: bool) -> Composer:
    """The composer that flags and settings ask for: copy beats database beats rating."""
    if copy or config.get("WALG_USE_COPY_COMPOSER"):
        return "copy"
    if database or config.get("WALG_USE_DATABASE_COMPOSER"):
        return "database"
    return "rating" if rating or config.get("WALG_USE_RATING_COMPOSER") else "regular"


def settle(options: PushOptions) -> None:
    """Apply the rules between the options. Raises UsageError where they contradict each other."""
    if options.delta_from_name and options.delta_from_user_data:
        raise UsageError("only one of --delta-from-name and --delta-from-user-data can say what to build on")
    if not options.files_metadata:
        if options.composer != "regular":
            raise UsageError(f"--without-files-metadata needs the regular composer, not the {options.composer} one")
        if options.delta_from_name or options.delta_from_user_data:
            raise UsageError("--without-files-metadata makes full backups only; leave out --delta-from-…")
        options.full = True
    if options.composer == "copy":
        options.full = True


def user_data_of(context: Context, text: str) -> Any:
    """`--add-user-data`, or `WALG_SENTINEL_USER_DATA`. Raises UsageError when it is not JSON."""
    if not text:
        return user_data(context.config.get("WALG_SENTINEL_USER_DATA"))
    try:
        return user_data(json.loads(text))
    except ValueError as error:
        raise UsageError(
            f"--add-user-data is not valid JSON: {error}", hint="a text needs quotes: '\"text\"'"
        ) from error
