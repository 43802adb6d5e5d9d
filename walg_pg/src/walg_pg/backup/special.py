"""The two special tars: `pg_control`, read last, and what the stop call returned (spec/postgres-backup.md 4.3)."""

from __future__ import annotations

from collections.abc import Iterable

from walg_core.errors import EngineError
from walg_core.pipeline import tar
from walg_core.pipeline.reader import IterReader

from walg_pg.backup.contents import DataFiles, FileContent
from walg_pg.backup.packing import Packer
from walg_pg.backup.parts import Uploader
from walg_pg.backup.walk import Found

CONTROL_PART = "pg_control.tar"
LABEL_PART = "backup_label.tar"


class ReadyTar(IterReader):
    """A small tar made in memory. `names` and `data` as of every stream of entries."""

    __slots__ = ("data", "names")

    def __init__(self, entries: Iterable[tuple[str, bytes, bytes]]) -> None:
        """`entries`: name for the list, header, data."""
        pieces: list[bytes] = []
        self.names: list[str] = []
        self.data = 0
        for name, header, data in entries:
            self.names.append(name)
            self.data += len(data)
            pieces += [header, data, tar.padding(len(data))]
        super().__init__([b"".join([*pieces, tar.TRAILER])])


def store_control(uploader: Uploader, packer: Packer, control: Found | None) -> None:
    """Store `global/pg_control` as it is now, under the header of the walk. It is in no list of files."""
    if control is None:
        raise EngineError("global/pg_control was not found in the data directory", hint="is it a whole cluster?")
    size = control.stat.st_size
    files = DataFiles()
    try:
        fd = files.open(control.path)
    except FileNotFoundError as error:
        raise EngineError(f"{control.path} vanished during the backup") from error
    content = FileContent(files, fd, control.path, size)
    try:
        data = b"".join(iter(lambda: content.read(size), b""))
    finally:
        content.close()
    uploader.ledger.number()
    uploader.store(CONTROL_PART, ReadyTar([(control.name, packer.headers.make(control, size), data)]), [])


def store_label(uploader: Uploader, label: str, tablespace_map: str) -> None:
    """Store `backup_label` and `tablespace_map` (also when it is empty)."""
    entries = []
    for name, text in (("backup_label", label), ("tablespace_map", tablespace_map)):
        data = text.encode()
        entries.append((name, tar.header(tar.Entry(name.encode(), len(data), 0o600)), data))
    uploader.ledger.number()
    uploader.store(LABEL_PART, ReadyTar(entries), ["tablespace_map", "backup_label"])
