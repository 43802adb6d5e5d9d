"""A TCP proxy that misbehaves: latency, low bandwidth, tiny slices, resets, black holes, truncation, refusal."""

import socket
import struct
import threading
import time
from types import TracebackType
from typing import Self


class FaultProxy:
    """Forwards 127.0.0.1:`port` to `(host, target_port)` and injects what its attributes say, at any time.

    `latency` (seconds before each piece), `bandwidth` (bytes/s, 0: unlimited), `slice_size` (bytes a piece).
    `reset_after`, `close_after`, `stall_after`: bytes in one direction of a connection after which it is reset, closed
    as if complete, or goes silent (None: never). `refuse`: new connections are reset at once. `silent`: new
    connections are accepted and never answered. `direction` is `up` (to the server), `down`, or `both`.
    `faults_left` limits to how many connections the byte limits still apply (None: all). `connections` and `passed`
    (bytes each way) count what went through.
    """

    def __init__(self, host: str, target_port: int) -> None:
        self.latency = 0.0
        self.bandwidth = 0
        self.slice_size = 1 << 16
        self.reset_after: int | None = None
        self.close_after: int | None = None
        self.stall_after: int | None = None
        self.refuse = False
        self.silent = False
        self.direction = "both"
        self.faults_left: int | None = None
        self.connections = 0
        self.passed = {"up": 0, "down": 0}
        self._target = (host, target_port)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def heal(self) -> None:
        """Forward faithfully from now on; connections that were stalled are dropped."""
        self.latency, self.bandwidth, self.slice_size = 0.0, 0, 1 << 16
        self.reset_after = self.close_after = self.stall_after = None
        self.refuse = self.silent = False
        self.drop()

    def drop(self) -> None:
        """Reset every open connection."""
        with self._lock:
            found = list(self._open)
        for each in found:
            _reset(each)

    def close(self) -> None:
        self._stopping.set()
        self._listener.close()
        self.drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.refuse:
                _reset(client)
                continue
            with self._lock:
                self._open.add(client)
            if not self.silent:
                self._join(client)

    def _join(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, timeout=10)
        except OSError:
            _reset(client)
            return
        server.settimeout(None)
        with self._lock:
            self._open.add(server)
            faulty = self.faults_left is None or self.faults_left > 0
            if self.faults_left:
                self.faults_left -= 1
        for source, sink, way in ((client, server, "up"), (server, client, "down")):
            threading.Thread(target=self._pump, args=(source, sink, way, faulty), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, way: str, faulty: bool) -> None:
        passed = 0
        try:
            while piece := source.recv(self.slice_size):
                if self.direction in (way, "both"):
                    piece, verdict = self._spoil(piece, passed, faulty)
                    sink.sendall(piece)
                    passed += len(piece)
                    self._count(way, piece)
                    if verdict == "stall":
                        self._stopping.wait()
                    elif verdict == "reset":
                        _reset(source)
                        _reset(sink)
                        return
                    elif verdict == "close":
                        break
                else:
                    sink.sendall(piece)
                    self._count(way, piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            _reset(source)
            _reset(sink)
        finally:
            with self._lock:
                self._open.discard(source)

    def _count(self, way: str, piece: bytes) -> None:
        with self._lock:
            self.passed[way] += len(piece)

    def _spoil(self, piece: bytes, passed: int, faulty: bool) -> tuple[bytes, str]:
        """Delay as configured; what of the piece may pass, and what happens to the connection afterwards."""
        if self.latency:
            time.sleep(self.latency)
        if self.bandwidth:
            time.sleep(len(piece) / self.bandwidth)
        if faulty:
            for limit, verdict in (
                (self.reset_after, "reset"),
                (self.close_after, "close"),
                (self.stall_after, "stall"),
            ):
                if limit is not None and passed + len(piece) >= limit:
                    return piece[: max(0, limit - passed)], verdict
        return piece, ""


def _reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        # The other side was faster.
        pass
    connection.close()
