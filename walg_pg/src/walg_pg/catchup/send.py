"""`catchup-send`: what a replica lacks, from the primary's data directory straight to the replica's (spec 15.3)."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator

from walg_core.context import Context
from walg_core.errors import EngineError
from walg_core.observe import log, progress
from walg_core.observe.progress import Tracker
from walg_core.pipeline.reader import CHUNK
from walg_core.storage.layers.limit import disk_bucket

from walg_pg.backup import mode
from walg_pg.backup.archive_wait import stop_archived
from walg_pg.backup.contents import DataFiles, FileContent
from walg_pg.backup.increments import Incrementer
from walg_pg.backup.parts import Content
from walg_pg.backup.push import check_same_directory, checked_directory
from walg_pg.backup.walk import CATCHUP_EXCLUDED, Found, Walk
from walg_pg.catchup.messages import LABEL, PG_CONTROL, TABLESPACE_MAP, Command, CommandWriter, Control, read_hello
from walg_pg.catchup.wire import Connection, connect
from walg_pg.lsn import format_lsn
from walg_pg.server import Server


class Sender:
    """One catchup. `run` returns when the receiver has everything and has ended well."""

    def __init__(self, context: Context, directory: str, address: str) -> None:
        self._config = context.config
        self._context = context
        self._directory = checked_directory(directory)
        self._address = address
        self._segment_size: int = self._config.get("WALG_PG_WAL_SIZE") << 20
        self._files = DataFiles(disk_bucket(context))
        self._writer = CommandWriter()
        self.sent_bytes = 0
        self.sent_files = 0

    def run(self) -> None:
        """Raises WalgError; the server is out of backup mode then, and the replica cannot be started."""
        with Server.connect() as server:
            facts = mode.facts(server, self._segment_size)
            check_same_directory(self._directory, facts.data_directory)
            with connect(self._address, self._context) as connection:
                decoder = connection.decoder()
                theirs, known = read_hello(decoder)
                connection.finish(decoder)
                check(facts, theirs)
                log.info(f"The replica is at {format_lsn(theirs.position)} and has {len(known)} files and directories")
                self._send(server, facts, connection, theirs, known)
                log.info("Waiting for the receiver to make everything durable")
                connection.wait_for_end()
        log.info(f"Catchup sent: {self.sent_files} files, {self.sent_bytes} bytes")

    def _send(
        self,
        server: Server,
        facts: mode.ServerFacts,
        connection: Connection,
        theirs: Control,
        known: dict[str, int],
    ) -> None:
        backup = mode.BackupMode(server)
        alive = mode.AliveCheck(server, self._config.get("WALG_ALIVE_CHECK_INTERVAL"))
        try:
            begun = backup.start("wal-g catchup")
            alive.start()
            if begun.lsn <= theirs.position:
                raise EngineError(
                    f"the replica is at {format_lsn(theirs.position)}, this server only at {format_lsn(begun.lsn)}",
                    hint="is it the replica of this server, and not the other way round?",
                )
            archiving = mode.check_archiving(server, facts.in_recovery)

            def stop() -> mode.Stopped:
                return stop_archived(
                    backup,
                    facts,
                    begun.lsn,
                    self._segment_size,
                    timeout=self._config.get("WALG_STOP_BACKUP_TIMEOUT") or 0,
                    archiving=archiving,
                    watch=alive.check,
                )

            with progress.track(None, "catchup") as tracker:
                connection.send(self._orders(theirs, known, stop, alive, tracker))
        finally:
            alive.end()
            backup.abort(self._directory)

    def _orders(
        self,
        theirs: Control,
        known: dict[str, int],
        stop: Callable[[], mode.Stopped],
        alive: mode.AliveCheck,
        tracker: Tracker,
    ) -> Iterator[bytes]:
        """All that the receiver is told, in the protocol's order."""
        walk = Walk(self._directory, CATCHUP_EXCLUDED)
        incrementer = Incrementer(self._files, self._config.get("WALG_PG_BLOCK_SIZE"), theirs.position, None)
        yield from self._tablespaces()
        seen: set[str] = set()
        for found in walk:
            alive.check()
            name = found.name.lstrip("/")
            seen.add(name)
            if not found.is_file or known.get(name) == found.mtime:
                continue
            for message in self._file(found, name, incrementer if name in known else None):
                tracker.advance(len(message))
                yield message
        if gone := vanished(known, seen, walk.tablespaces):
            yield self._writer.command(Command(kind="delete", names=tuple(gone)))
        if walk.control is None:
            raise EngineError(f"{self._directory} has no global/pg_control any more")
        control = self._small(walk.control.path)
        stopped = stop()
        for name, data in (
            (LABEL, (stopped.label or "").encode()),
            (TABLESPACE_MAP, (stopped.tablespace_map or "").encode()),
            (PG_CONTROL, control),
        ):
            yield self._writer.command(Command(kind="contents", name=name, contents=data))
        yield self._writer.command(Command(kind="done"))

    def _tablespaces(self) -> Iterator[bytes]:
        """The tablespace map ahead of the files, so that the receiver can place tablespaces that are new to it.

        The one that counts comes with the label at the end; a receiver of the original only writes it twice.
        """
        folder = f"{self._directory}/pg_tblspc"
        lines = []
        for name in sorted(os.listdir(folder)):
            if os.path.islink(f"{folder}/{name}"):
                target = os.readlink(f"{folder}/{name}")
                escaped = target.replace("\\", "\\\\").replace("\n", "\\\n").replace("\r", "\\\r")
                lines.append(f"{name} {escaped}\n")
        if lines:
            contents = os.fsencode("".join(lines))
            yield self._writer.command(Command(kind="contents", name=TABLESPACE_MAP, contents=contents))

    def _file(self, found: Found, name: str, incrementer: Incrementer | None) -> Iterator[bytes]:
        """The order and the data of one file; nothing when it has vanished. `incrementer`: the receiver has it."""
        try:
            fd = self._files.open(found.path)
        except FileNotFoundError:
            log.debug(f"{found.path} vanished; its last state is in the WAL")
            return
        content: Content = FileContent(self._files, fd, found.path, found.stat.st_size)
        try:
            kind = "full"
            if incrementer is not None and incrementer.is_paged(found):
                blocks = incrementer.blocks(found, fd)
                if blocks is not None:
                    kind, content = "increment", incrementer.content(found, fd, blocks)
            self.sent_files += 1
            self.sent_bytes += content.size
            yield self._writer.command(Command(kind=kind, name=name, size=content.size))
            while data := content.read(CHUNK):
                yield self._writer.data(data)
        finally:
            content.close()

    def _small(self, path: str) -> bytes:
        try:
            with open(path, "rb") as file:
                return file.read(1 << 16)
        except OSError as error:
            raise EngineError(f"cannot read {path}: {error.strerror}") from error


def check(facts: mode.ServerFacts, theirs: Control) -> None:
    """Raises EngineError unless the receiver's directory is a replica of this server on the same timeline."""
    if facts.system_identifier != theirs.system:
        raise EngineError(
            f"the receiver's directory is of the cluster {theirs.system}, this server is {facts.system_identifier}",
            hint="only a replica of this very cluster can catch up; make a new one with backup-fetch",
        )
    if facts.timeline != theirs.timeline:
        raise EngineError(
            f"the replica is on timeline {theirs.timeline}, this server on {facts.timeline}",
            hint="it may have changes that this server never had; use pg_rewind, or make a new one with backup-fetch",
        )


def vanished(known: Iterable[str], seen: set[str], tablespaces: Container[str]) -> list[str]:
    """What the receiver has to delete, content before directories; `seen` and `tablespaces`: the primary's.

    The original's receiver lists the links of tablespaces, ours what is behind them; and it gives up at a directory
    that is not empty: directories stay in which the replica keeps something of its own.
    """
    staying: set[str] = set()
    gone = []
    for name in known:
        parts = name.split("/")
        is_link = parts[0] == "pg_tblspc" and len(parts) == 2 and parts[1] in tablespaces
        if not name or is_link or name in seen or is_spared(name):
            staying.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
        else:
            gone.append(name)
    return sorted((name for name in gone if name not in staying), reverse=True)


def is_spared(name: str) -> bool:
    """Whether a file of the receiver is its own affair: configuration, logs, WAL, what only its server has.

    So are tablespaces that it keeps inside its data directory; their files are known as those of `pg_tblspc`.
    """
    parts = name.split("/")
    inside = parts[0] != "pg_tblspc" and any(part[:3] == "PG_" and part[3:4].isdigit() for part in parts)
    return inside or not CATCHUP_EXCLUDED.isdisjoint(parts) or parts[-1].startswith("pg_control")
