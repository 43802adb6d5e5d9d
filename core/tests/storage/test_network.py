"""A storage behind a network that misbehaves: everything ends, in success or a clear failure, within its deadline."""

import http.client
import http.server
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from walg_core.errors import AccessDenied, ObjectNotFound, StorageError, TransientError
from walg_core.pipeline.reader import BytesReader, Reader, read_all
from walg_core.storage.api import ObjectInfo, Storage
from walg_core.storage.layers.retry import Policy, RetryStorage
from walg_core.storage.layers.stall import StallStorage
from walg_core.testing import FaultProxy
from walg_core.testing.conformance.frame import data


class Server(http.server.ThreadingHTTPServer):
    """Objects over HTTP: GET with a range, HEAD, PUT; whole or not at all."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.answers: list[int] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Broken connections are what these tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def _answer(self, status: int, body: bytes = b"", length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.server.answers:
            self._answer(self.server.answers.pop(0))
            return
        found = self.server.objects.get(self.path)
        start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        self._answer(404 if found is None else 200, (found or b"")[start:])

    def do_HEAD(self) -> None:
        found = self.server.objects.get(self.path)
        self._answer(404 if found is None else 200, b"", len(found or b""))

    def do_PUT(self) -> None:
        size = int(self.headers["Content-Length"])
        body = self.rfile.read(size)
        if len(body) < size:
            self.close_connection = True
            return
        if self.server.answers:
            self._answer(self.server.answers.pop(0))
            return
        self.server.objects[self.path] = body
        self._answer(201)


class HttpStorage(Storage):
    """The plainest client: no time-outs and no retries of its own, so that the layers have to bring them."""

    description = "http://test"

    def __init__(self, port: int) -> None:
        self.port = port

    def _request(self, method: str, key: str, body: bytes | None = None, offset: int = 0) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        try:
            connection.request(method, "/" + key, body, {"Range": f"bytes={offset}-", "Connection": "close"})
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise TransientError(f"{method} '{key}': {error!r}", key=key) from error
        if answer.status == 404:
            raise ObjectNotFound(key)
        if answer.status == 403:
            raise AccessDenied(f"{method} '{key}': 403", key=key)
        if answer.status >= 400:
            raise TransientError(f"{method} '{key}': {answer.status}", key=key)
        return answer

    def stat(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, int(self._request("HEAD", key).headers["Content-Length"]), 0.0)

    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        answer = self._request("GET", key, offset=offset)

        class Body:
            def read(self, size: int = -1, /) -> bytes:
                try:
                    piece = answer.read(size if size >= 0 else None)
                except (OSError, http.client.HTTPException) as error:
                    raise TransientError(f"read '{key}': {error!r}") from error
                if not piece and answer.length:
                    raise TransientError(f"read '{key}': the body ended {answer.length} bytes too early")
                return piece

            def close(self) -> None:
                answer.close()

        return Body()

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        content = read_all(body)
        self._request("PUT", key, content).close()
        return len(content)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", server.server_address[1]) as found:
        yield found


STALL, DEADLINE = 0.4, 3.0


@pytest.fixture
def storage(proxy: FaultProxy) -> Storage:
    return RetryStorage(StallStorage(HttpStorage(proxy.port), STALL), Policy(2, DEADLINE, first=0.02, longest=0.2))


SIZE = 2_500_000
TOXICS = {
    "latency": {"latency": 0.003},
    "low bandwidth": {"bandwidth": 20_000_000},
    "tiny slices": {"slice_size": 1200},
    "reset at the start": {"reset_after": 0, "faults_left": 2},
    "reset in the middle": {"reset_after": SIZE // 2, "faults_left": 2},
    "closed in the middle": {"close_after": SIZE // 3, "faults_left": 2},
    "silence in the middle": {"stall_after": SIZE // 3, "faults_left": 2},
}


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("toxic", TOXICS)
def test_what_passes_is_overcome(
    server: Server, proxy: FaultProxy, storage: Storage, toxic: str, direction: str
) -> None:
    for name, value in TOXICS[toxic].items():
        setattr(proxy, name, value)
    proxy.direction = direction
    body = data(SIZE)
    started = time.monotonic()
    if direction == "up":
        assert storage.put("object", BytesReader(body), len(body)) == SIZE
        assert server.objects["/object"] == body
    else:
        server.objects["/object"] = body
        assert storage.get("object") == body
    assert time.monotonic() - started < 2 * DEADLINE


@pytest.mark.parametrize("toxic", ["refuse", "silent", "reset", "stall"])
@pytest.mark.parametrize("operation", ["put", "get", "stat"])
def test_what_stays_ends_with_an_error_in_time(
    server: Server, proxy: FaultProxy, storage: Storage, toxic: str, operation: str
) -> None:
    server.objects["/object"] = b"x" * 100_000
    proxy.refuse, proxy.silent = toxic == "refuse", toxic == "silent"
    proxy.reset_after = 50 if toxic == "reset" else None
    proxy.stall_after = 50 if toxic == "stall" else None
    calls: dict[str, Any] = {
        "put": lambda: storage.put("new", BytesReader(b"y" * 100_000)),
        "get": lambda: storage.get("object"),
        "stat": lambda: storage.stat("object"),
    }
    started = time.monotonic()
    with pytest.raises(TransientError):
        calls[operation]()
    assert time.monotonic() - started < 2 * DEADLINE
    assert "/new" not in server.objects


def test_a_resumed_read_fetches_only_the_rest(server: Server, proxy: FaultProxy, storage: Storage) -> None:
    body = server.objects["/object"] = data(SIZE)
    proxy.direction, proxy.reset_after, proxy.faults_left = "down", 2_000_000, 1
    reader = storage.open("object")
    assert read_all(reader) == body
    assert proxy.connections == 2


def test_a_body_that_cannot_be_replayed_fails_whole(server: Server, proxy: FaultProxy, storage: Storage) -> None:
    from walg_core.testing.conformance.frame import Body

    proxy.direction, proxy.reset_after, proxy.faults_left = "up", 1000, 1
    with pytest.raises(TransientError):
        storage.put("object", Body(data(SIZE)))
    assert "/object" not in server.objects


@pytest.mark.parametrize("burst", [[503], [500, 429], [408]])
def test_bursts_of_errors_are_overcome(server: Server, storage: Storage, burst: list[int]) -> None:
    server.objects["/object"] = b"content"
    server.answers = [*burst]
    assert storage.get("object") == b"content"
    server.answers = [*burst]
    storage.put("other", BytesReader(b"replayed"))
    assert server.objects["/other"] == b"replayed"


def test_what_is_final_is_asked_once(server: Server, proxy: FaultProxy, storage: Storage) -> None:
    server.answers = [403, 200]
    with pytest.raises(StorageError, match="403"):
        storage.get("object")
    assert proxy.connections == 1
