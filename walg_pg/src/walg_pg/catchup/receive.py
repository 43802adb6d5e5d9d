"""`catchup-receive`: lets a primary bring the data directory of a stopped replica forward (spec 15.3).

From the first change until the end `global/pg_control` stands under another name, so that no server starts on a
directory that is half old and half new; a repeated run goes on from there. Files that come whole are written beside
the old ones and put in their place, so that what a cut connection leaves is either old or new.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from walg_core.context import Context
from walg_core.errors import EngineError, IntegrityError
from walg_core.io.destination import Destination, components, show, write_all
from walg_core.observe import log, progress
from walg_core.observe.progress import Tracker

from walg_pg.backup.walk import Walk
from walg_pg.catchup.gob import Decoder
from walg_pg.catchup.messages import (
    LABEL,
    PG_CONTROL,
    TABLESPACE_MAP,
    Body,
    Command,
    read_command,
    read_control,
    write_hello,
)
from walg_pg.catchup.send import is_spared
from walg_pg.catchup.state import check_stopped, finished, own_control, set_aside
from walg_pg.catchup.wire import Connection, listen
from walg_pg.restore import increments, tablespaces

_PARTIAL = b".catchup"
_SIZE_LIMIT = 1 << 50
_LINK_IT = "link the tablespace's oid in {}/pg_tblspc to an empty directory, then repeat both commands"


class Receiver:
    """One catchup of `directory`. `run` waits for one sender and returns when all is complete and durable."""

    def __init__(self, context: Context, directory: str) -> None:
        self._context = context
        self._page = int(context.config.get("WALG_PG_BLOCK_SIZE"))
        self._fsync = not context.config.get("WALG_TAR_DISABLE_FSYNC")
        self._directory = os.path.realpath(directory)
        self.control = own_control(self._directory)
        self.files = 0
        self._changing = False
        self._contents: dict[str, bytes] = {}

    def run(self, address: str) -> None:
        """Raises WalgError, OSError; once something was changed the directory cannot be started then."""
        check_stopped(self._directory)
        if self._context.crypter() is None:
            log.warning("no encryption is configured: whoever reaches the port first decides what the replica gets")
        with listen(address) as listening:
            log.info(f"Waiting for wal-g catchup-send at {address}")
            connected, peer = listening.accept()
        log.info(f"Connection from {peer[0]}")
        with Connection(connected, "sender", self._context) as connection:
            self.converse(connection)
        log.info(f"Catchup complete: {self.files} files came, {self._directory} can be started as a replica")

    def converse(self, connection: Connection) -> None:
        """The whole exchange with one sender."""
        check_stopped(self._directory)
        connection.send(write_hello(self.control, self._own_files()))
        decoder = connection.decoder()
        with Destination(self._directory, fsync=self._fsync) as root, progress.track(None, "received") as tracker:
            self._root = root
            self._modes()
            self._mounted = self._mount()
            try:
                for command in _orders(decoder):
                    self._carry_out(command, decoder, tracker)
                connection.finish(decoder)
            except BaseException:
                if self._changing:
                    log.error(f"{self._directory} is incomplete and cannot be started: run both commands again")
                raise
            self._complete()

    def _own_files(self) -> dict[str, int]:
        """Entries of the directory with their times, without those that are nobody else's affair."""
        walk = Walk(self._directory)
        own = {f"{place}/".removeprefix("/") for place in walk.inside}
        found = {each.name.lstrip("/"): each.mtime for each in walk}
        return {
            name: mtime
            for name, mtime in found.items()
            if name and not name.startswith(PG_CONTROL) and not any(place.startswith(f"{name}/") for place in own)
        }

    def _modes(self) -> None:
        """Those of new entries: readable for the group where the data directory is."""
        found = self._root.stat(())
        group = found is not None and bool(found.st_mode & stat.S_IRGRP)
        self._file_mode, self._directory_mode = (0o640, 0o750) if group else (0o600, 0o700)

    def _mount(self) -> set[str]:
        """Follow the replica's own tablespace links; their oids."""
        found = set()
        folder = f"{self._directory}/pg_tblspc"
        for oid in os.listdir(folder) if os.path.isdir(folder) else ():
            if os.path.islink(f"{folder}/{oid}"):
                if not os.path.isdir(f"{folder}/{oid}"):
                    raise EngineError(f"the link {folder}/{oid} of a tablespace leads nowhere", hint="repair it first")
                self._root.mount(components(f"pg_tblspc/{oid}"), Destination(f"{folder}/{oid}", fsync=self._fsync))
                found.add(oid)
            elif os.path.isdir(f"{folder}/{oid}"):
                found.add(oid)
        return found

    def _carry_out(self, command: Command, decoder: Decoder, tracker: Tracker) -> None:
        if command.name != TABLESPACE_MAP:
            self._begin()
        if command.kind in ("full", "increment"):
            body = Body(decoder, command.size, command.name)
            parts = self._target(command.name)
            if is_spared(command.name):
                log.debug(f"{command.name} is the replica's own: left alone")
                while body.read():
                    pass
            elif command.kind == "full":
                self._whole(parts, body, tracker)
            else:
                self._increment(command.name, parts, body)
                tracker.advance(command.size)
            if body.left:
                raise IntegrityError(f"{command.name}: {body.left} bytes more than an increment has")
            self.files += 1
        elif command.kind == "contents":
            self._small(command)
        else:
            for name in sorted(command.names, key=len, reverse=True):
                self._delete(name)

    def _begin(self) -> None:
        """From here on no server starts on the directory."""
        if self._changing:
            return
        set_aside(self._root)
        self._changing = True

    def _target(self, name: str) -> tuple[bytes, ...]:
        """The place of a file that comes. Raises IntegrityError for one that cannot be."""
        parts = components(name)
        if not parts:
            raise IntegrityError("the sender wants to write a file without a name")
        if parts[0] == b"pg_tblspc" and len(parts) > 1 and os.fsdecode(parts[1]) not in self._mounted:
            oid = os.fsdecode(parts[1])
            raise EngineError(f"tablespace {oid} is new to the replica", hint=_LINK_IT.format(self._directory))
        return parts

    def _whole(self, parts: tuple[bytes, ...], body: Body, tracker: Tracker) -> None:
        old = self._root.stat(parts)
        mode = stat.S_IMODE(old.st_mode) if old is not None and stat.S_ISREG(old.st_mode) else self._file_mode
        partial = (*parts[:-1], parts[-1] + _PARTIAL)
        fd = self._root.create(partial, mode, parents=self._directory_mode)
        try:
            while piece := body.read():
                write_all(fd, piece, show(parts))
                tracker.advance(len(piece))
        finally:
            self._root.close_file(fd)
        self._root.replace(partial, parts)

    def _increment(self, name: str, parts: tuple[bytes, ...], body: Body) -> None:
        try:
            fd = self._root.open_file(parts)
        except FileNotFoundError:
            raise IntegrityError(
                f"{name}: changed pages came of a file that is not here: did something delete it?"
            ) from None
        try:
            header = increments.read_header(body, name, self._page, _SIZE_LIMIT)
            increments.apply(body, header, fd, name)
        finally:
            self._root.close_file(fd)

    def _small(self, command: Command) -> None:
        if command.name not in (LABEL, TABLESPACE_MAP, PG_CONTROL):
            raise IntegrityError(f"the sender wants to write {command.name!r}, which is not its affair")
        self._contents[command.name] = command.contents
        if command.name == TABLESPACE_MAP:
            self._place(command.contents)

    def _place(self, contents: bytes) -> None:
        """Tablespaces that the replica lacks: where the primary has them, if that is free on this host."""
        new = tuple(
            tablespaces.Tablespace(oid, f"pg_tblspc/{oid}", location)
            for oid, location in tablespaces.read_map(contents)
            if oid not in self._mounted
        )
        layout = tablespaces.Layout(new, moved=False)
        try:
            tablespaces.check_locations(layout, self._directory)
        except EngineError as error:
            raise EngineError(str(error), hint=_LINK_IT.format(self._directory)) from error
        tablespaces.prepare(layout, self._root, fsync=self._fsync)
        tablespaces.link(layout, self._root)
        for each in new:
            log.info(f"tablespace {each.oid} is new to the replica: it is made in {each.location}")
            self._mounted.add(each.oid)

    def _delete(self, name: str) -> None:
        parts = components(name)
        if not parts or is_spared(name):
            log.warning(f"the sender wants to delete {name!r}, which is the replica's own: left alone")
            return
        found = self._root.stat(parts)
        if found is None:
            return
        if not stat.S_ISDIR(found.st_mode):
            self._root.remove(parts)
        elif not self._root.remove_dir(parts):
            log.warning(f"the directory {name} is not the primary's but has files of the replica: left alone")

    def _complete(self) -> None:
        """Everything durable first, then the label, and last the control file: now the directory can be started."""
        label, control = self._contents.get(LABEL), self._contents.get(PG_CONTROL)
        if not label or not control:
            raise IntegrityError(f"the sender says it is done but sent no {PG_CONTROL if label else LABEL}")
        if read_control(control, "the sender's control file").system != self.control.system:
            raise IntegrityError("the sender's control file is of another cluster")
        self._root.finish()
        self._root.write_file(components(LABEL), label, self._file_mode)
        # The links are there; a map would make the server put the primary's locations in their place.
        self._root.remove(components(TABLESPACE_MAP))
        finished(self._root, control, self._file_mode)


def _orders(decoder: Decoder) -> Iterator[Command]:
    while True:
        command = read_command(decoder)
        if command.kind == "done":
            return
        yield command
