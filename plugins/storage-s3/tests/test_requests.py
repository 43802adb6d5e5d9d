"""What goes over the wire: how many requests, with which headers, and what becomes of bad answers."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from walg_core.builtin import walg_register_settings
from walg_core.errors import AccessDenied, PermanentError, StorageError, WalgError
from walg_core.pipeline.reader import IterReader, read_all
from walg_core.settings.config import Config
from walg_core.testing.contexts import make_context
from walg_storage_s3.bucket import S3Storage
from walg_storage_s3.plugin import SETTINGS
from walg_storage_s3.storage import create


class Gate(http.server.ThreadingHTTPServer):
    """Hands requests on to the server, remembers them, and answers itself as `fault` says.

    `fault(handler, number)` returns True when it has dealt with the request (the number counts from 0).
    """

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.target = endpoint.removeprefix("http://")
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.fault: Callable[[Passing, int], bool] | None = None
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are what some of these tests are about."""

    @property
    def kinds(self) -> list[str]:
        return [f"{method} {path.partition('?')[2].partition('=')[0]}".strip() for method, path, _ in self.seen]


class Passing(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gate

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            number = len(self.server.seen)
            self.server.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        if self.server.fault and self.server.fault(self, number):
            return
        status, headers, content = self.ask(body)
        self.say(status, headers, content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one

    def ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.target, timeout=30)
        connection.request(self.command, self.path, body, dict(self.headers.items()))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def say(self, status: int, headers: dict[str, str], content: bytes, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        held = {name.lower(): value for name, value in headers.items()}.get("content-length", "0")
        self.send_header("Content-Length", held if self.command == "HEAD" else str(length or len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture
def gate(server) -> Iterator[Gate]:
    with Gate(server.endpoint) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def settings(server, gate: Gate) -> dict[str, str]:
    return {
        **server.settings(),
        "WALG_S3_PREFIX": f"s3://bucket/{uuid.uuid4()}",
        "AWS_ENDPOINT": f"http://127.0.0.1:{gate.server_port}",
        "S3_MAX_PART_SIZE": str(5 << 20),
    }


def open_storage(settings: dict[str, str], **more: str) -> S3Storage:
    given = {name: text for name, text in {**settings, **more}.items() if text}
    return create(Config([*walg_register_settings(), *SETTINGS], flags=given), given["WALG_S3_PREFIX"])


def parts(count: int) -> IterReader:
    return IterReader(os.urandom(1 << 20) for _ in range(count))


# Request budgets.


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (lambda s: s.put_bytes("x", b"x"), ["PUT"]),
        (lambda s: s.put_bytes("new", b"x", True), ["PUT"]),
        (lambda s: s.put("large", parts(11)), ["POST uploads", "PUT partNumber", "PUT partNumber", "PUT partNumber",
                                                "POST uploadId"]),
        (lambda s: s.get("there/1"), ["GET"]),
        (lambda s: read_all(s.open("there/1", 1, 2)), ["GET"]),
        (lambda s: s.exists("there/1"), ["HEAD"]),
        (lambda s: s.exists("absent"), ["HEAD"]),
        (lambda s: list(s.list()), ["GET"]),
        (lambda s: list(s.list_dir("there/")), ["GET"]),
        (lambda s: s.list_dirs(), ["GET"]),
        (lambda s: s.delete([f"there/{n}" for n in range(900)]), ["POST delete"]),
        (lambda s: s.copy("there/1", "copied"), ["PUT"]),
    ],
)  # fmt: skip
def test_requests_of_operations(gate: Gate, settings, work, expected: list[str]) -> None:
    storage = open_storage(settings)
    for number in range(3):
        storage.put_bytes(f"there/{number}", b"some bytes")
    gate.seen.clear()
    work(storage)
    assert sorted(kind.removesuffix(" list-type").removesuffix(" delimiter") for kind in gate.kinds) == sorted(
        expected
    ), gate.kinds


def run(settings: dict[str, str], *words: str, status: int = 0) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WALG_", "AWS_", "PG"))}
    done = subprocess.run(
        [sys.executable, "-m", "walg_core", *words],
        env={
            **kept,
            **{k: v for k, v in settings.items() if v},
            "WALG_CHECK_WAL_HEADER": "false",
            "WALG_DOWNLOAD_CONCURRENCY": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def engine_words() -> list[str]:
    """`pg` where several engines are installed."""
    from walg_core.plugins import installed

    engines = installed(frozenset()).engines
    if "pg" not in engines:
        pytest.skip("walg-pg is not installed")
    return ["pg"] if len(engines) > 1 else []


def test_requests_of_commands(gate: Gate, settings, tmp_path: Path) -> None:
    engine = engine_words()
    wal = tmp_path / "pg_wal"
    (wal / "archive_status").mkdir(parents=True)
    segment = wal / "000000010000000000000001"
    segment.write_bytes(os.urandom(1 << 20) * 16)
    budgets: list[tuple[int, tuple[str, ...], int]] = [
        (3, (*engine, "wal-push", str(segment)), 0),
        (3, (*engine, "wal-fetch", segment.name, str(tmp_path / "fetched")), 0),
        (8, (*engine, "wal-fetch", "000000010000000000000002", str(tmp_path / "absent")), 74),
        (2, (*engine, "st", "ls"), 0),
        (1, (*engine, "st", "ls", "-r"), 0),
        (3, (*engine, "backup-list"), 0),
    ]
    found = {}
    settings = {**settings, "S3_MAX_PART_SIZE": ""}
    for budget, words, status in budgets:
        gate.seen.clear()
        run(settings, *words, status=status)
        found[" ".join(words)] = (len(gate.seen), budget, gate.kinds)
        assert 0 < len(gate.seen) <= budget, [(m, p) for m, p, _ in gate.seen]
    assert (tmp_path / "fetched").read_bytes() == segment.read_bytes()


# Headers.


def test_customer_key_goes_with_every_request_for_the_object(gate: Gate, settings) -> None:
    storage = open_storage(settings, S3_SSE="AES256", S3_SSE_C="0123456789abcdef0123456789abcdef")
    storage.put_bytes("small", b"secret")
    storage.put("large", parts(11))
    assert storage.get("small") == b"secret"
    assert read_all(storage.open("small", 2, 3)) == b"cre"
    storage.stat("small")
    for method, path, headers in gate.seen:
        if "uploadId" in path and method == "POST":
            continue
        assert headers["x-amz-server-side-encryption-customer-algorithm"] == "AES256", (method, path)
        assert headers["x-amz-server-side-encryption-customer-key"] == "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def test_customer_key_with_a_lock(gate: Gate, settings) -> None:
    storage = open_storage(
        settings, S3_SSE="AES256", S3_SSE_C="0123456789abcdef0123456789abcdef", S3_RETENTION_PERIOD="1"
    )
    with pytest.raises(StorageError):  # this bucket has no object lock
        storage.put_bytes("small", b"secret")
    headers = gate.seen[-1][2]
    assert headers["x-amz-server-side-encryption-customer-key-md5"] == "hRasmdxgYDKV3nvbahU1MA=="
    assert headers["x-amz-object-lock-mode"] == "GOVERNANCE"


def test_additional_headers(gate: Gate, settings) -> None:
    storage = open_storage(settings, S3_REQUEST_ADDITIONAL_HEADERS='[{"X-Owner": "backups"}, {"X-Cost": "7"}]')
    storage.put_bytes("x", b"x")
    list(storage.list_versions())
    for _, _, headers in gate.seen:
        assert (headers["x-owner"], headers["x-cost"]) == ("backups", "7")


# Bad answers.


def answer(status: int, code: str = "", times: int = 1) -> Callable[[Passing, int], bool]:
    """The first `times` requests get this error."""

    def fault(handler: Passing, number: int) -> bool:
        if number >= times:
            return False
        handler.say(status, {}, f"<Error><Code>{code or status}</Code><Message>on purpose</Message></Error>".encode())
        return True

    return fault


@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (502, ""), (503, "SlowDown"), (429, ""),
                                              (503, "ServiceUnavailable")])  # fmt: skip
def test_bursts_are_ridden_out(gate: Gate, settings, status: int, code: str) -> None:
    with contextlib.closing(make_context(settings)) as context:
        storage = context.primary_storage()
        for work in (
            lambda: storage.put_bytes("x", b"content"),
            lambda: storage.get("x"),
            lambda: list(storage.list()),
            lambda: list(storage.list_versions()),
            lambda: storage.delete(["x"]),
        ):
            gate.seen.clear()
            gate.fault = answer(status, code, 2)
            work()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "InvalidRequest", PermanentError),
        (401, "", AccessDenied),
        (403, "AccessDenied", AccessDenied),
        (403, "SignatureDoesNotMatch", AccessDenied),
        (404, "NoSuchBucket", PermanentError),
        (405, "MethodNotAllowed", PermanentError),
    ],
)
def test_refusals_are_not_tried_again(gate: Gate, settings, status: int, code: str, kind: type[WalgError]) -> None:
    with contextlib.closing(make_context(settings)) as context:
        storage = context.primary_storage()
        for work in (lambda: storage.put_bytes("x", b"content"), lambda: list(storage.list())):
            gate.seen.clear()
            gate.fault = answer(status, code, 100)
            with pytest.raises(kind) as caught:
                work()
            assert len(gate.seen) == 1
            assert "WALG_S3_PREFIX" in (caught.value.hint or "")


@pytest.mark.parametrize("length", ["short", "reset"])
def test_broken_bodies_are_resumed(gate: Gate, settings, length: str) -> None:
    content = os.urandom(3 << 20)
    with contextlib.closing(make_context(settings)) as context:
        storage = context.primary_storage()
        storage.put_bytes("x", content)
        gate.seen.clear()

        def fault(handler: Passing, number: int) -> bool:
            if number >= 2:
                return False
            status, headers, body = handler.ask(b"")
            handler.say(status, headers, body[: 1 << 20], len(body))
            handler.wfile.flush()
            if length == "reset":
                handler.connection.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")
            handler.close_connection = True
            return True

        gate.fault = fault
        assert storage.get("x") == content
        assert any("range" in headers for _, _, headers in gate.seen)


def test_a_black_hole_ends_within_the_deadline(gate: Gate, settings) -> None:
    over = threading.Event()
    gate.fault = lambda handler, number: over.wait(60)
    with contextlib.closing(
        make_context({**settings, "WALG_STORAGE_STALL_TIMEOUT": "1s", "WALG_STORAGE_RETRIES": "1"})
    ) as context:
        storage = context.primary_storage()
        for work in (lambda: storage.stat("x"), lambda: list(storage.list()), lambda: storage.get("x")):
            started = time.monotonic()
            with pytest.raises(StorageError):
                work()
            assert time.monotonic() - started < 15
        over.set()


def test_no_parts_stay_when_the_server_fails(server, gate: Gate, settings) -> None:
    import boto3

    def fault(handler: Passing, number: int) -> bool:
        if "partNumber=3" not in handler.path:
            return False
        handler.say(400, {}, b"<Error><Code>InvalidRequest</Code></Error>")
        return True

    gate.fault = fault
    storage = open_storage(settings)
    with pytest.raises(PermanentError):
        storage.put("large", parts(18))
    gate.fault = None
    assert not storage.exists("large")
    keys = {"aws_access_key_id": server.key, "aws_secret_access_key": server.secret, "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=server.endpoint, **keys)
    assert "Uploads" not in client.list_multipart_uploads(Bucket="bucket")


HUGE = """
import json, sys
from walg_core.pipeline.reader import IterReader
from walg_core.testing.contexts import make_context
context = make_context(json.loads(sys.argv[1]))
storage = context.primary_storage()
piece = bytes(1 << 20)
storage.put("huge", IterReader(piece for _ in range(5 << 10)))
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("lock", ["-1", "60"])
def test_five_gigabytes_through_a_small_buffer(gate: Gate, settings, lock: str) -> None:
    def fault(handler: Passing, number: int) -> bool:
        """A server that keeps nothing: its memory would not hold it."""
        if handler.command == "POST" and "uploads" in handler.path:
            handler.say(
                200, {}, b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
            )
        elif handler.command == "POST":
            handler.say(200, {}, b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")
        else:
            handler.say(200, {"ETag": '"e"'}, b"")
        return True

    gate.fault = fault
    words = {**settings, "S3_MAX_PART_SIZE": str(8 << 20), "UPLOAD_CONCURRENCY": "4", "S3_RETENTION_PERIOD": lock}
    done = subprocess.run(
        [sys.executable, "-c", HUGE, json.dumps(words)], capture_output=True, text=True, check=True, timeout=500
    )
    assert int(done.stdout) < 150 + 4 * 8, f"{done.stdout} MiB at most"
    sizes = [int(headers["content-length"]) for method, _, headers in gate.seen if method == "PUT"]
    assert sizes == [8 << 20] * 640
