"""The receiver against senders of all kinds: whole ones, hostile ones, ones that go away. No server is needed."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from walg_core.cli.session import Session
from walg_core.context import Context
from walg_core.errors import EngineError, IntegrityError, UsageError, WalgError
from walg_pg.catchup.messages import Command, CommandWriter, read_hello
from walg_pg.catchup.receive import Receiver
from walg_pg.catchup.state import SET_ASIDE
from walg_pg.catchup.wire import Connection, connect, listen, parse_address

SYSTEM = 7_000_000_000_000_000_001
LABEL = b"START WAL LOCATION: 0/5000028 (file 000000010000000000000005)\n"


def control(system: int = SYSTEM, redo: int = 0x3000028) -> bytes:
    data = bytearray(8192)
    struct.pack_into("<QI", data, 0, system, 1300)
    struct.pack_into("<QQI", data, 32, redo + 56, redo, 1)
    return bytes(data)


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    for name in [name for name in os.environ if name.startswith(("WALG_", "WALE_", "PG"))]:
        monkeypatch.delenv(name)
    made = Session(["catchup-receive"], "pg").start()
    yield made
    made.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A replica's data directory, with a tablespace elsewhere and one inside itself."""
    root = tmp_path / "replica"
    for directory in ("global", "base/1", "base/9", "pg_wal", "pg_tblspc", "tablespaces/700/PG_15_1/1"):
        (root / directory).mkdir(parents=True)
    root.chmod(0o700)
    (root / "global/pg_control").write_bytes(control())
    (root / "base/1/1000").write_bytes(b"a" * 8192 * 3)
    (root / "base/1/1000").chmod(0o640)
    (root / "base/9/dropped").write_bytes(b"x")
    (root / "postgresql.conf").write_text("mine")
    (root / "pg_wal/000000010000000000000003").write_bytes(b"wal")
    (tmp_path / "space/PG_15_1/1").mkdir(parents=True)
    (root / "pg_tblspc/600").symlink_to(tmp_path / "space")
    (root / "pg_tblspc/700").symlink_to(root / "tablespaces/700")
    (root / "tablespaces/700/PG_15_1/1/5").write_bytes(b"t")
    return root


def ends(*, system: int = SYSTEM) -> list[Command]:
    return [
        Command(kind="contents", name="backup_label", contents=LABEL),
        Command(kind="contents", name="tablespace_map"),
        Command(kind="contents", name="global/pg_control", contents=control(system, 0x5000028)),
        Command(kind="done"),
    ]


Orders = Callable[[], Iterator[bytes]]


def orders(*steps: tuple[Command, bytes] | Command, finish: bool = True, system: int = SYSTEM) -> Orders:
    def give() -> Iterator[bytes]:
        writer = CommandWriter()
        for step in (*steps, *(ends(system=system) if finish else ())):
            command, body = step if isinstance(step, tuple) else (step, b"")
            yield writer.command(command) + writer.data(body)

    return give


def full(name: str, body: bytes) -> tuple[Command, bytes]:
    return Command(kind="full", name=name, size=len(body)), body


def increment(name: str, size: int, pages: dict[int, bytes]) -> tuple[Command, bytes]:
    head = b"wi1\x55" + struct.pack("<QI", size, len(pages)) + struct.pack(f"<{len(pages)}I", *pages)
    body = head + b"".join(pages.values())
    return Command(kind="increment", name=name, size=len(body)), body


class Exchange:
    """A receiver and what a sender saw of it."""

    def __init__(self, context: Context, data: Path) -> None:
        self.context = context
        self.receiver = Receiver(context, str(data))
        self.files: dict[str, int] = {}
        self.sender_failed: WalgError | None = None

    def run(self, give: Orders, *, vanish: bool = False) -> None:
        """The receiver's side; raises what it raises."""
        with listen("127.0.0.1:" + str(free_port())) as listening:
            address = f"127.0.0.1:{listening.getsockname()[1]}"
            thread = threading.Thread(target=self._send, args=(address, give, vanish))
            thread.start()
            try:
                with Connection(listening.accept()[0], "sender", self.context) as connection:
                    self.receiver.converse(connection)
            finally:
                thread.join(20)
                assert not thread.is_alive()

    def _send(self, address: str, give: Orders, vanish: bool) -> None:
        try:
            with connect(address, self.context) as connection:
                self.control, self.files = read_hello(connection.decoder())
                connection.send(give())
                if vanish:
                    return
                connection.wait_for_end()
        except WalgError as error:
            self.sender_failed = error


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_whole_catchup(context: Context, data: Path, tmp_path: Path) -> None:
    new, page = tmp_path / "new", b"b" * 8192
    exchange = Exchange(context, data)
    exchange.run(
        orders(
            Command(kind="contents", name="tablespace_map", contents=f"800 {new}\n600 /elsewhere\n".encode()),
            increment("base/1/1000", 8192 * 5, {1: page, 4: page}),
            full("base/2/77", b"new" * 100_000),
            full("pg_tblspc/600/PG_15_1/1/42", b"in the old space"),
            full("pg_tblspc/800/PG_15_1/1/43", b"in the new space"),
            full("empty", b""),
            full("postgresql.conf", b"the primary's"),
            Command(kind="delete", names=("base/9", "base/9/dropped", "postgresql.conf", "pg_wal", "", "base/1")),
        )
    )
    assert exchange.sender_failed is None
    assert exchange.control.position == 0x3000028
    known = exchange.files
    assert {"base/1/1000", "base/9", "pg_tblspc/700/PG_15_1/1/5", "postgresql.conf"} <= known.keys()
    assert not known.keys() & {"", "global/pg_control", "tablespaces/700/PG_15_1/1/5", "tablespaces/700", "tablespaces"}
    assert known["base/9/dropped"] > 0
    assert (data / "base/1/1000").read_bytes() == b"a" * 8192 + page + b"a" * 8192 + bytes(8192) + page
    assert (data / "base/1/1000").stat().st_mode & 0o777 == 0o640
    assert (data / "base/2/77").read_bytes() == b"new" * 100_000
    assert (data / "base/2/77").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "space/PG_15_1/1/42").read_bytes() == b"in the old space"
    assert (new / "PG_15_1/1/43").read_bytes() == b"in the new space"
    assert (data / "pg_tblspc/800").readlink() == new
    assert (data / "pg_tblspc/600").readlink() == tmp_path / "space"
    assert (data / "postgresql.conf").read_text() == "mine"
    assert not (data / "base/9").exists()
    assert (data / "pg_wal/000000010000000000000003").exists()
    assert (data / "base/1").is_dir()
    assert (data / "backup_label").read_bytes() == LABEL
    assert (data / "global/pg_control").read_bytes() == control(SYSTEM, 0x5000028)
    assert not (data / "tablespace_map").exists()
    assert not (data / SET_ASIDE).exists()


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([full("../outside", b"x")], "leads out of the destination"),
        ([full("", b"x")], "without a name"),
        ([full("base/1", b"x")], "taken by the directory"),
        ([full("pg_tblspc/601/PG_15_1/1/2", b"x")], "tablespace 601 is new"),
        ([increment("base/1/2000", 8192, {0: b"c" * 8192})], "is not here"),
        ([(Command(kind="increment", name="base/1/1000", size=16), b"wi2\x55" + bytes(12))], "not an increment"),
        ([Command(kind="contents", name="postgresql.conf", contents=b"x")], "not its affair"),
        (
            [(Command(kind="full", name="a", size=10), b"short"), Command(kind="done")],
            "more bytes of data came something else",
        ),
    ],
)
def test_senders_that_are_refused(
    context: Context, data: Path, tmp_path: Path, steps: list[tuple[Command, bytes]], reason: str
) -> None:
    exchange = Exchange(context, data)
    with pytest.raises(WalgError, match=reason):
        exchange.run(orders(*steps))
    assert exchange.sender_failed is not None
    assert not (data / "global/pg_control").exists()
    assert (data / SET_ASIDE).read_bytes() == control()
    assert not (tmp_path / "outside").exists()
    again = Exchange(context, data)
    again.run(orders())
    assert again.control.position == 0x3000028
    assert (data / "global/pg_control").read_bytes() == control(SYSTEM, 0x5000028)


def test_a_sender_that_goes_away_leaves_what_no_server_starts_on(context: Context, data: Path) -> None:
    exchange = Exchange(context, data)
    body = b"z" * 3_000_000
    half = (Command(kind="full", name="base/1/1000", size=2 * len(body)), body)
    with pytest.raises(WalgError, match="connection ended"):
        exchange.run(orders(full("base/1/5", b"y"), half, finish=False), vanish=True)
    assert not (data / "global/pg_control").exists()
    assert (data / "base/1/1000").read_bytes() == b"a" * 8192 * 3, (
        "a file that comes whole is replaced when it is whole"
    )
    with pytest.raises(IntegrityError, match="sent no backup_label"):
        Exchange(context, data).run(orders(Command(kind="done"), finish=False))
    assert not (data / "global/pg_control").exists()
    again = Exchange(context, data)
    again.run(orders(Command(kind="delete", names=tuple(exchange.files.keys() & {"base/1/1000.catchup"}))))
    assert (data / "global/pg_control").exists()


def test_a_sender_of_another_cluster_is_noticed(context: Context, data: Path) -> None:
    exchange = Exchange(context, data)
    with pytest.raises(IntegrityError, match="another cluster"):
        exchange.run(orders(system=5))
    assert not (data / "global/pg_control").exists()
    assert exchange.sender_failed is not None


def test_a_sender_that_refuses_leaves_everything_as_it_was(context: Context, data: Path) -> None:
    def refuse() -> Iterator[bytes]:
        raise EngineError("another timeline")
        yield b""

    with pytest.raises(WalgError):
        Exchange(context, data).run(refuse)
    assert (data / "global/pg_control").read_bytes() == control()
    assert not (data / SET_ASIDE).exists()


def test_a_new_tablespace_whose_place_is_taken(context: Context, data: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/PG_15_1").mkdir()
    step = Command(kind="contents", name="tablespace_map", contents=f"801 {tmp_path}/taken\n".encode())
    with pytest.raises(EngineError, match="is not empty") as caught:
        Exchange(context, data).run(orders(step))
    assert "pg_tblspc" in (caught.value.hint or "")
    assert (data / "global/pg_control").exists()


def test_targets_that_are_none(context: Context, data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EngineError, match="not a data directory"):
        Receiver(context, str(tmp_path / "empty"))
    (data / "postmaster.pid").write_text("1\n")
    with pytest.raises(EngineError, match="a server runs on it"):
        Receiver(context, str(data)).run("127.0.0.1:1")
    (data / "postmaster.pid").unlink()
    with listen("127.0.0.1:" + str(free_port())) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match="cannot listen") as caught:
            Receiver(context, str(data)).run(f"127.0.0.1:{port}")
    assert "another program" in (caught.value.hint or "")
    with pytest.raises(EngineError, match="cannot connect"):
        connect(f"127.0.0.1:{port}", context)


def test_a_stranger_on_the_port(context: Context, data: Path) -> None:
    receiver = Receiver(context, str(data))
    with listen("127.0.0.1:" + str(free_port())) as listening, socket.socket() as stranger:
        stranger.connect(listening.getsockname())
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        stranger.shutdown(socket.SHUT_WR)
        with (
            Connection(listening.accept()[0], "sender", context) as connection,
            pytest.raises(IntegrityError, match="does not speak"),
        ):
            receiver.converse(connection)
    assert (data / "global/pg_control").exists()


def test_addresses() -> None:
    assert parse_address("7000") == ("", 7000)
    assert parse_address("db.example.com:7000") == ("db.example.com", 7000)
    assert parse_address("[::1]:7000") == ("::1", 7000)
    for wrong in ("", "host", "host:", "host:x", "host:0", "host:65536"):
        with pytest.raises(UsageError):
            parse_address(wrong)
