"""wal-receive: segments straight from the server's replication stream into the archive (spec/postgres-wal.md 9.1).

The slot moves on only when a segment is durably stored, so the server keeps what the archive does not have yet. A lost
connection is opened again; the stream then starts at the beginning of the unfinished segment.
"""

from __future__ import annotations

import struct
import threading
import time
from dataclasses import dataclass

from walg_core.backups import gojson, times
from walg_core.context import Context
from walg_core.errors import ConfigError, EngineError, IntegrityError, ObjectNotFound, StorageError
from walg_core.observe import log
from walg_core.pipeline import transfer
from walg_core.pipeline.reader import BytesReader, read_exactly
from walg_core.storage.api import Storage

from walg_pg.journal import metadata, place, segment
from walg_pg.journal.history import history_name, parse_history
from walg_pg.journal.recorder import Recorder
from walg_pg.lsn import format_lsn, parse_lsn, segment_name
from walg_pg.replication import Replication, ReplicationError, clock
from walg_pg.server import Server

STATUS_INTERVAL = 10.0
LOOK_INTERVAL = 0.25
"""Seconds after which a request to stop is noticed at the latest."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
WAL_DATA, KEEPALIVE = ord("w"), ord("k")
_WAL_HEAD = struct.Struct(">cQQQ")
_KEEPALIVE = struct.Struct(">cQQB")
_STATUS = struct.Struct(">cQQQQB")
UNDEFINED_FILE = "58P01"


class Refused(EngineError):
    """Waiting does not mend it: another cluster, WAL that is gone, a setting that does not fit."""


@dataclass(slots=True)
class Slot:
    """The replication slot. `restart` is the LSN that the server keeps WAL from, None when it keeps none yet."""

    name: str
    exists: bool
    restart: int | None


class Receiver:
    """Streams until `stop`. `context` gives the storage and the codecs."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.storage = context.primary_storage()
        self.wal: Storage = self.storage.folder(place.FOLDER)
        self.slot_name = slot_name(context)
        self.segment_size = place.segment_size(context.config)
        self._stopping = threading.Event()
        self._recorder = _recorder(context, self.segment_size)
        self._system: int | None = None
        self._next: int | None = None
        self._reported = 0.0

    def stop(self) -> None:
        """Ask `run` to end after the current message; safe in a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Receive until `stop`; connection and storage failures are waited out with growing pauses.

        Raises EngineError and ConfigError for what waiting does not mend, and before anything was received also for a
        slot in use.
        """
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._stream()
            except (EngineError, StorageError) as error:
                if self._is_final(error):
                    raise
                if time.monotonic() - began > 60:
                    pause = FIRST_PAUSE
                log.warning(f"wal-receive was interrupted, next try in {pause:.0f} s: {error}")
                self._stopping.wait(pause)
                pause = min(LONGEST_PAUSE, pause * 2)
        log.info("wal-receive was told to stop")

    def _is_final(self, error: Exception) -> bool:
        if isinstance(error, ReplicationError):
            # A slot may look busy for a while after our own connection broke.
            busy = error.sqlstate[:2] == "55" and self._next is None
            return busy or error.sqlstate[:2] in ("28", "42")
        return isinstance(error, Refused) or (isinstance(error, EngineError) and self._next is None)

    def _stream(self) -> None:
        with Replication() as connection:
            system = connection.command("IDENTIFY_SYSTEM")[0]
            self._check_system(int(system["systemid"] or 0))
            slot = self._slot(connection)
            start = slot.restart if slot.restart is not None else parse_lsn(str(system["xlogpos"]))
            if self._next is None:
                position = start - start % self.segment_size
                timeline = self._timeline_of(connection, int(system["timeline"] or 1), start)
                self._check_archive(timeline, position)
                self._next = position
            else:
                # Whatever became of the slot meanwhile: no segment may be left out.
                position = self._next
                timeline = self._timeline_of(connection, int(system["timeline"] or 1), position)
            while not self._stopping.is_set():
                following = self._one_timeline(connection, timeline, position)
                if following is None:
                    return
                timeline, position = following

    def _check_system(self, system: int) -> None:
        """One archive, one cluster: the server's identifier never changes, and is that of PGDATA where it is set."""
        data = self.context.config.get("PGDATA")
        control = place.read_control(data) if data else None
        known = self._system if self._system is not None else control[0] if control else system
        if system != known:
            raise Refused(
                f"the server's system identifier is {system}, that of this archive's cluster {known}",
                hint="PGHOST and PGPORT lead to another cluster; give that one an archive of its own",
            )
        self._system = system

    def _check_archive(self, timeline: int, position: int) -> None:
        """What the archive has at this place must be of this cluster, too."""
        number = position // self.segment_size
        for each in (number, number - 1):
            name = segment_name(timeline, each, self.segment_size) if each > 0 else ""
            try:
                source, _ = transfer.open_by_name(self.context, self.wal, name) if name else (BytesReader(b""), "")
            except ObjectNotFound:
                continue
            try:
                head = read_exactly(source, segment.HEADER_SIZE)
            except IntegrityError as error:
                log.warning(f"the archived {name} cannot be read and says nothing: {error}")
                continue
            finally:
                source.close()
            found = int.from_bytes(head[24:32], "little")
            if found and int.from_bytes(head[2:4], "little") & segment.LONG_HEADER and found != self._system:
                raise Refused(
                    f"{name} in the archive is of the cluster with system identifier {found}, this is {self._system}",
                    hint="give this cluster an archive of its own, or another WALG_STORAGE_PREFIX",
                )

    def _slot(self, connection: Replication) -> Slot:
        """The slot as it is, made when it is missing; checks the server's segment size on the way."""
        with Server.connect() as server:
            rows = server.query("select setting::bigint, unit from pg_settings where name = 'wal_segment_size'")
            size = int(rows[0][0]) * (8192 if rows[0][1] == "8kB" else 1)
            found = server.query(
                "select active, restart_lsn::text from pg_replication_slots where slot_name = $1", self.slot_name
            )
        if size != self.segment_size:
            raise Refused(
                f"the server's WAL segments have {size} bytes, WALG_PG_WAL_SIZE says {self.segment_size}",
                hint=f"set WALG_PG_WAL_SIZE={size >> 20}",
            )
        if not found:
            connection.command(f'CREATE_REPLICATION_SLOT "{self.slot_name}" PHYSICAL RESERVE_WAL')
            log.info(f"created the replication slot {self.slot_name}")
            return Slot(self.slot_name, True, None)
        active, restart = found[0]
        if active:
            raise EngineError(
                f"the replication slot {self.slot_name} is in use by another receiver",
                hint="stop that one, or set WALG_SLOTNAME to a slot of its own",
            )
        return Slot(self.slot_name, True, parse_lsn(restart) if restart else None)

    def _timeline_of(self, connection: Replication, newest: int, lsn: int) -> int:
        """The timeline on which `lsn` lies in the history of the server's newest one."""
        if newest < 2:
            return newest
        text = self._push_history(connection, newest)
        for switch in parse_history(text, name=history_name(newest)) if text else []:
            if switch.lsn > lsn:
                return switch.timeline
        return newest

    def _push_history(self, connection: Replication, timeline: int) -> str:
        """Archive the history file of `timeline`; its text, "" when the server has none."""
        try:
            row = connection.command(f"TIMELINE_HISTORY {timeline}")[0]
        except ReplicationError as error:
            if error.sqlstate == UNDEFINED_FILE:
                return ""
            raise
        text = row["content"] or ""
        self._store(row["filename"] or history_name(timeline), text.encode("utf-8", "surrogateescape"))
        return text

    def _one_timeline(self, connection: Replication, timeline: int, position: int) -> tuple[int, int] | None:
        """Stream one timeline from a segment's start; where to go on, or None when told to stop."""
        log.info(f"receiving timeline {timeline} from {format_lsn(position)} through slot {self.slot_name}")
        rest = bytearray()
        try:
            rows = connection.start_copy(
                f'START_REPLICATION SLOT "{self.slot_name}" PHYSICAL {format_lsn(position)} TIMELINE {timeline}'
            )
            if rows is None:
                if not self._copy(connection, timeline, position, rest):
                    return None
                position += self._done
                rows = connection.finish_copy(answer=True)
        except ReplicationError as error:
            if error.sqlstate == UNDEFINED_FILE:
                raise Refused(
                    f"the server has no WAL from {format_lsn(position)} on any more: {error}",
                    hint=f"the archive has a gap: drop the slot {self.slot_name}, start again, and make a base backup",
                ) from error
            raise
        if not rows:
            raise ReplicationError("the server ended the stream: it is shutting down, or the connection was ended")
        if rest:
            name = segment_name(timeline, position // self.segment_size, self.segment_size)
            self._store(name + ".partial", bytes(rest).ljust(self.segment_size, b"\0"))
        following = int(rows[0]["next_tli"] or 0)
        self._push_history(connection, following)
        return following, position

    _done = 0

    def _copy(self, connection: Replication, timeline: int, start: int, rest: bytearray) -> bool:
        """Collect and store segments until the stream ends (True) or `stop` (False). `rest` keeps what is over."""
        self._done = 0
        self._report(connection, start)
        for message in connection.messages(LOOK_INTERVAL):
            if self._stopping.is_set():
                return False
            stored = start + self._done
            if message is None:
                if time.monotonic() - self._reported >= STATUS_INTERVAL:
                    self._report(connection, stored)
            elif message[0] == KEEPALIVE:
                _, end, _, wanted = _KEEPALIVE.unpack_from(message)
                if wanted:
                    self._answer(connection, stored, stored + len(rest), end)
            elif message[0] == WAL_DATA:
                _, at, _, _ = _WAL_HEAD.unpack_from(message)
                self._append(connection, timeline, start, at, message[_WAL_HEAD.size :], rest)
        return True

    def _append(
        self, connection: Replication, timeline: int, start: int, at: int, data: bytes, rest: bytearray
    ) -> None:
        expected = start + self._done + len(rest)
        if at != expected:
            raise IntegrityError(f"the server sent WAL from {format_lsn(at)} where {format_lsn(expected)} follows")
        rest += data
        while len(rest) >= self.segment_size:
            number = (start + self._done) // self.segment_size
            self._store_segment(segment_name(timeline, number, self.segment_size), bytes(rest[: self.segment_size]))
            del rest[: self.segment_size]
            self._done += self.segment_size
            self._next = start + self._done
            self._report(connection, start + self._done)

    def _answer(self, connection: Replication, stored: int, received: int, end: int) -> None:
        """Answer a server that asks. One that shuts down asks until everything up to `end` has reached us.

        A written position without a flushed one says so and does not move the slot, which keeps what is not stored.
        """
        if received < end:
            self._report(connection, stored)
        else:
            connection.send(_STATUS.pack(b"r", received, 0, 0, clock(), 0))

    def _report(self, connection: Replication, lsn: int) -> None:
        connection.send(_STATUS.pack(b"r", lsn, lsn, lsn, clock(), 0))
        self._reported = time.monotonic()

    def _store_segment(self, name: str, data: bytes) -> None:
        """A whole segment: checked, stored, and its changed blocks noted."""
        segment.check(name, data, len(data), self.segment_size, "what the server sent", self._system)
        self._store(name, data)
        if self._recorder:
            self._recorder.record_bytes(name, data)
            self._recorder.flush(self.context, self.wal)

    def _store(self, name: str, data: bytes) -> None:
        stored = transfer.store(self.context, self.wal, name, BytesReader(data))
        log.info(f"FILE PATH: {stored.key}")
        if metadata.mode(self.context.config) != "NOMETADATA":
            document = gojson.dumps(metadata.describe(name, times.now()))
            self.wal.put_bytes(f"{name}.json", document)


def _recorder(context: Context, segment_size: int) -> Recorder | None:
    """What keeps the blocks that are changed (`WALG_USE_WAL_DELTA`); it needs a directory for what is unfinished."""
    if not context.config.get("WALG_USE_WAL_DELTA"):
        return None
    directory = place.wal_directory(context.config)
    if directory is None:
        log.warning("WALG_USE_WAL_DELTA needs PGDATA to keep unfinished deltas; nothing is recorded")
        return None
    return Recorder(place.data_folder(directory), segment_size, context.config.get("WALG_PG_WAL_PAGE_SIZE"))


def slot_name(context: Context) -> str:
    """`WALG_SLOTNAME`, checked. Raises ConfigError."""
    name: str = context.config.get("WALG_SLOTNAME") or "walg"
    if not 0 < len(name) <= 63 or not name.isascii() or not name.replace("_", "a").isalnum():
        raise ConfigError(f"WALG_SLOTNAME is {name!r}: expected at most 63 lower-case letters, digits and underscores")
    return name
