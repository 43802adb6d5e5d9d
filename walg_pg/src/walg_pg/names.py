"""Names of folders, backups and their objects (spec/postgres-backup.md 1). Light: no `re`, anything may import it."""

from __future__ import annotations

from walg_core.errors import WalgError

from walg_pg.journal import place
from walg_pg.lsn import HEX, segment_name

BASEBACKUPS = "basebackups_005/"
CATCHUP = "catchup_005/"
WAL_FOLDER = place.FOLDER + "/"
SENTINEL_SUFFIX = "_backup_stop_sentinel.json"
METADATA_NAME = "metadata.json"
FILES_METADATA_NAME = "files_metadata.json"
PREFIX = "base_"
NO_WAL = "Z" * 24
"""The "WAL file name" of a key that contains none."""

_UPPER = HEX - frozenset("abcdef")


class NotABackupName(WalgError):
    """The text is not the name of a base backup."""


def full_name(timeline: int, number: int, segment_size: int) -> str:
    """Name of a full backup that starts in WAL segment `number` of `timeline`."""
    return PREFIX + segment_name(timeline, number, segment_size)


def delta_name(own_segment: str, base: str) -> str:
    """Name of a delta: its own start segment and that of its base (full or delta). Raises NotABackupName."""
    return f"{PREFIX}{own_segment}_D_{own_segment_of(base)}"


def own_segment_of(name: str) -> str:
    """The first 24 hex digits of a backup's name: the segment it starts in. Raises NotABackupName."""
    found = wal_file_name(name)
    if found == NO_WAL:
        raise NotABackupName(f"'{name}' is not the name of a base backup")
    return found


def wal_file_name(key: str) -> str:
    """The first run of 24 upper-case hex digits in an object's key, or 24 times `Z`."""
    start = 0
    for index, letter in enumerate(key):
        if letter not in _UPPER:
            start = index + 1
        elif index - start == 23:
            return key[start : index + 1]
    return NO_WAL


def is_backup_name(text: str) -> bool:
    """Whether `text` is exactly a name: full, delta, or WAL-E's form with an offset."""
    if not text.startswith(PREFIX):
        return False
    rest = text[len(PREFIX) :]
    if not _hex(rest[:24], 24):
        return False
    rest = rest[24:]
    if rest.startswith("_D_"):
        if not _hex(rest[3:27], 24):
            return False
        rest = rest[27:]
    return not rest or (rest[0] == "_" and _hex(rest[1:], 8))


def is_wal_e_name(name: str) -> bool:
    """Whether it is WAL-E's form `base_<24 hex>_<8 hex>`: such backups have no special tars."""
    return is_backup_name(name) and len(name) == len(PREFIX) + 33


def timeline_of(name: str) -> int:
    """The timeline that a backup started on. Raises NotABackupName."""
    return int(own_segment_of(name)[:8], 16)


def name_from_key(key: str) -> str:
    """The backup's name in a sentinel's key: its last component up to the first `_backup`."""
    return key.rsplit("/", 1)[-1].split("_backup", 1)[0]


def sentinel_key(name: str, folder: str = BASEBACKUPS) -> str:
    """Key of the sentinel, whose presence means that the backup exists."""
    return f"{folder}{name}{SENTINEL_SUFFIX}"


def metadata_key(name: str, folder: str = BASEBACKUPS) -> str:
    """Key of `metadata.json`."""
    return f"{folder}{name}/{METADATA_NAME}"


def files_metadata_key(name: str, folder: str = BASEBACKUPS) -> str:
    """Key of `files_metadata.json`."""
    return f"{folder}{name}/{FILES_METADATA_NAME}"


def parts_prefix(name: str, folder: str = BASEBACKUPS) -> str:
    """Prefix of the backup's tars."""
    return f"{folder}{name}/tar_partitions/"


def _hex(text: str, length: int) -> bool:
    return len(text) == length and _UPPER.issuperset(text)
