"""`binlog-fetch` and `binlog-replay` (spec/mysql.md 7.6, 7.7; 14, rows 7 and 8)."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from walg_core.backups import times
from walg_core.errors import ConfigError, Interrupted
from walg_core.io import atomic
from walg_core.observe import log
from walg_core.parallel import Task, run_all
from walg_core.streams.commands import Command, command_text, feed_command

from walg_mysql.journal.ranges import SECOND, Range, binlogs_of
from walg_mysql.journal.transactions import Window, joined

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage

    from walg_mysql.journal.archive import Binlog

DESTINATION = "WALG_MYSQL_BINLOG_DST"
REPLAY = "WALG_MYSQL_BINLOG_REPLAY_COMMAND"
ORDER = "binlogs_order"
_AT_ONCE = 4
"""Binlogs that are fetched together: one is made durable while the next is decoded."""
_WAITING = 2
"""Downloaded binlogs that wait while one is replayed."""


def destination(context: Context) -> str:
    """The existing directory of WALG_MYSQL_BINLOG_DST. Raises ConfigError."""
    path = str(context.config.require(DESTINATION))
    if not os.path.isdir(path):
        raise ConfigError(f"{DESTINATION} is {path}, which is not a directory", hint="make it, or set another one")
    return path


def download(context: Context, storage: Storage, binlog: Binlog, folder: str) -> str:
    """One binlog into `folder`, whole or not at all, in place of an older file of that name; returns its path."""
    path = os.path.join(folder, binlog.name)
    source = binlog.open(context, storage)
    try:
        size = atomic.write_file(path, source)
    finally:
        source.close()
    log.info(f"{binlog.name} fetched: {size} bytes")
    return path


def fetch(context: Context, storage: Storage, chosen: Range) -> list[str]:
    """Download a range, several binlogs at once, and write the list of it in replay order; returns the names."""
    folder = destination(context)
    names: list[str] = []

    def tasks() -> Iterator[Task]:
        for binlog in binlogs_of(context, storage, chosen):
            names.append(binlog.name)
            yield partial(_fetch_one, context, storage, binlog, folder)

    run_all(tasks(), min(_AT_ONCE, context.config.get("WALG_DOWNLOAD_CONCURRENCY") or _AT_ONCE))
    atomic.write_file(os.path.join(folder, ORDER), "".join(f"{name}\n" for name in names).encode())
    log.info(f"{len(names)} binlogs fetched into {folder}")
    return names


def _fetch_one(context: Context, storage: Storage, binlog: Binlog, folder: str) -> None:
    download(context, storage, binlog, folder)


def replay(context: Context, storage: Storage, chosen: Range) -> int:
    """Run the replay command for each binlog of a range, in order; returns how many there were.

    With WALG_MYSQL_REPLAY_IN_ONE_SESSION one command reads all of them from its standard input, cut exactly at the
    end. Raises CommandFailed for the first that fails; nothing after it is replayed.
    """
    text = command_text(context.config, REPLAY)
    extra = {"WALG_MYSQL_BINLOG_END_TS": _local(chosen.until)}
    if context.config.get("WALG_MYSQL_REPLAY_IN_ONE_SESSION"):
        window = Window(before=chosen.until // SECOND)
        session(context, storage, text, binlogs_of(context, storage, chosen), window, extra)
        return window.binlogs
    folder = destination(context)
    count = 0
    with _ahead(_downloads(context, storage, chosen, folder)) as paths:
        for path in paths:
            log.info(f"replaying {os.path.basename(path)}")
            try:
                _run(text, {**extra, "WALG_MYSQL_CURRENT_BINLOG": path}, os.path.basename(path))
            finally:
                atomic.remove(path)
            count += 1
    log.info(f"{count} binlogs replayed")
    return count


def session(
    context: Context,
    storage: Storage,
    text: str,
    binlogs: Iterator[Binlog],
    window: Window,
    extra: dict[str, str] | None = None,
) -> None:
    """One command that reads the transactions of `window` from all `binlogs` on its standard input, as one binlog."""
    source = joined(((binlog.name, binlog.open(context, storage)) for binlog in binlogs), window)
    feed_command(text, source, label="binlog replay command", setting=REPLAY, extra=extra)
    log.info(f"{window.taken} transactions of {window.binlogs} binlogs replayed, {window.skipped} skipped")


def _local(ns: int) -> str:
    return times.format_local(ns, 0)[:19].replace("T", " ")


def _run(text: str, extra: dict[str, str], name: str) -> None:
    with open(os.devnull, "rb", buffering=0) as nothing:
        command = Command(
            text, label=f"failed to replay {name}: the command", setting=REPLAY, input_fd=nothing.fileno(), extra=extra
        )
        try:
            command.wait()
        finally:
            command.stop()


def _downloads(context: Context, storage: Storage, chosen: Range, folder: str) -> Iterator[str]:
    for binlog in binlogs_of(context, storage, chosen):
        yield download(context, storage, binlog, folder)


@contextmanager
def _ahead(paths: Iterator[str]) -> Iterator[Iterator[str]]:
    """Draws `paths` in a thread, at most two waiting; those never asked for are removed at the end."""
    waiting: queue.Queue[str | BaseException | None] = queue.Queue(_WAITING)
    stop = threading.Event()

    def put(item: str | BaseException | None) -> None:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.2)
            except queue.Full:
                continue
            return
        if isinstance(item, str):
            atomic.remove(item)

    def draw() -> None:
        try:
            for path in paths:
                put(path)
                if stop.is_set():
                    raise Interrupted("the replay has ended")
        except BaseException as error:  # raised again where the paths are taken
            put(error)
        else:
            put(None)

    def taken() -> Iterator[str]:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = threading.Thread(target=draw, name="binlog-download", daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        stop.set()
        thread.join()
        while not waiting.empty():
            item = waiting.get()
            if isinstance(item, str):
                atomic.remove(item)
