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
from walg_core.errors import ConfigError, EngineError, IntegrityError, StorageError
from walg_core.observe import log
from walg_core.pipeline import transfer
from walg_core.pipeline.reader import BytesReader
from walg_core.storage.api import Storage

from walg_pg.journal import metadata, place
from walg_pg.journal.history import history_name, parse_history
from walg_pg.lsn import format_lsn, parse_lsn, segment_name
from walg_pg.replication import Replication, ReplicationError, clock
from walg_pg.server import Server

STATUS_INTERVAL = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
WAL_DATA, KEEPALIVE = ord("w"), ord("k")
_WAL_HEAD = struct.Struct(">cQQQ")
_KEEPALIVE = struct.Struct(">cQQB")
_STATUS = struct.Struct(">cQQQQB")
UNDEFINED_FILE = "58P01"


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

    def stop(self) -> None:
        """Ask `run` to end after the current message; safe in a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Receive for ever; connection and storage failures are waited out with growing pauses.

        Raises EngineError and ConfigError for what waiting does not mend (no right to replicate, a slot in use).
        """
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._stream()
            except (ReplicationError, StorageError) as error:
                if isinstance(error, ReplicationError) and error.sqlstate[:2] in ("28", "42", "55"):
                    raise
                if time.monotonic() - began > 60:
                    pause = FIRST_PAUSE
                log.warning(f"wal-receive was interrupted, next try in {pause:.0f} s: {error}")
                self._stopping.wait(pause)
                pause = min(LONGEST_PAUSE, pause * 2)

    def _stream(self) -> None:
        with Replication() as connection:
            system = connection.command("IDENTIFY_SYSTEM")[0]
            slot = self._slot(connection)
            current = parse_lsn(str(system["xlogpos"]))
            start = slot.restart if slot.restart is not None else current
            timeline = self._timeline_of(connection, int(system["timeline"] or 1), start)
            position = start - start % self.segment_size
            while not self._stopping.is_set():
                following = self._one_timeline(connection, timeline, position)
                if following is None:
                    return
                timeline, position = following

    def _slot(self, connection: Replication) -> Slot:
        """The slot as it is, made when it is missing; checks the server's segment size on the way."""
        with Server.connect() as server:
            rows = server.query("select setting::bigint, unit from pg_settings where name = 'wal_segment_size'")
            size = int(rows[0][0]) * (8192 if rows[0][1] == "8kB" else 1)
            found = server.query(
                "select active, restart_lsn::text from pg_replication_slots where slot_name = $1", self.slot_name
            )
        if size != self.segment_size:
            raise EngineError(
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
        rows = connection.start_copy(
            f'START_REPLICATION SLOT "{self.slot_name}" PHYSICAL {format_lsn(position)} TIMELINE {timeline}'
        )
        segment = bytearray()
        if rows is None:
            if not self._copy(connection, timeline, position, segment):
                return None
            position += self._done
            rows = connection.finish_copy(answer=True)
        if segment:
            name = segment_name(timeline, position // self.segment_size, self.segment_size)
            self._store(name + ".partial", bytes(segment).ljust(self.segment_size, b"\0"))
        if not rows:
            raise ReplicationError("the server ended the stream without naming the next timeline")
        following = int(rows[0]["next_tli"] or 0)
        self._push_history(connection, following)
        return following, position

    _done = 0

    def _copy(self, connection: Replication, timeline: int, start: int, segment: bytearray) -> bool:
        """Collect and store segments until the stream ends (True) or `stop` (False). `segment` keeps the rest."""
        self._done = 0
        self._report(connection, start)
        for message in connection.messages(STATUS_INTERVAL):
            if self._stopping.is_set():
                return False
            stored = start + self._done
            if message is None:
                self._report(connection, stored)
            elif message[0] == KEEPALIVE:
                if _KEEPALIVE.unpack_from(message)[3]:
                    self._report(connection, stored)
            elif message[0] == WAL_DATA:
                _, at, _, _ = _WAL_HEAD.unpack_from(message)
                self._append(connection, timeline, start, at, message[_WAL_HEAD.size :], segment)
        return True

    def _append(
        self, connection: Replication, timeline: int, start: int, at: int, data: bytes, segment: bytearray
    ) -> None:
        expected = start + self._done + len(segment)
        if at != expected:
            raise IntegrityError(f"the server sent WAL from {format_lsn(at)} where {format_lsn(expected)} follows")
        segment += data
        while len(segment) >= self.segment_size:
            number = (start + self._done) // self.segment_size
            self._store(segment_name(timeline, number, self.segment_size), bytes(segment[: self.segment_size]))
            del segment[: self.segment_size]
            self._done += self.segment_size
            self._report(connection, start + self._done)

    def _report(self, connection: Replication, lsn: int) -> None:
        connection.send(_STATUS.pack(b"r", lsn, lsn, lsn, clock(), 0))

    def _store(self, name: str, data: bytes) -> None:
        stored = transfer.store(self.context, self.wal, name, BytesReader(data))
        log.info(f"FILE PATH: {stored.key}")
        if metadata.mode(self.context.config) != "NOMETADATA":
            document = gojson.dumps(metadata.describe(name, times.now()))
            self.wal.put_bytes(f"{name}.json", document)


def slot_name(context: Context) -> str:
    """`WALG_SLOTNAME`, checked. Raises ConfigError."""
    name: str = context.config.get("WALG_SLOTNAME") or "walg"
    if not 0 < len(name) <= 63 or not name.isascii() or not name.replace("_", "a").isalnum():
        raise ConfigError(f"WALG_SLOTNAME is {name!r}: expected at most 63 lower-case letters, digits and underscores")
    return name
