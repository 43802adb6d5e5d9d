"""An upload goes on where the server says that it stopped, and credentials are fetched and renewed.

The emulator takes the question after an upload's state for its end, so a stand-in speaks the documented protocol here.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from walg_core.builtin import SETTINGS as CORE_SETTINGS
from walg_core.errors import AccessDenied, Throttled, TransientError
from walg_core.pipeline.reader import IterReader
from walg_core.settings.config import Config
from walg_storage_gcs import upload
from walg_storage_gcs.plugin import SETTINGS
from walg_storage_gcs.storage import GoogleStorage, create

MIB = 1 << 20


class Server(http.server.ThreadingHTTPServer):
    """Keeps one upload. Loses the second half of every third part; `refusal` is answered to all instead."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got = bytearray()
        self.parts: list[int] = []
        self.headers: list[dict[str, str]] = []
        self.cancelled = False
        self.broken = False
        self.refusal: tuple[int, bytes] | None = None
        self.tokens = 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        """Silent."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self) -> None:
        self.body()
        if self.path == "/token":
            self.server.tokens += 1
            token = {"access_token": f"token-{self.server.tokens}", "expires_in": 3600, "token_type": "Bearer"}
            self.answer(200, json.dumps(token).encode())
            return
        self.server.got, self.server.parts = bytearray(), []
        self.answer(200, Location="http://elsewhere/upload?upload_id=1")

    def do_DELETE(self) -> None:
        self.body()
        self.server.cancelled = True
        self.answer(499)

    def do_GET(self) -> None:
        self.body()
        if self.headers["Authorization"] == "Bearer token-1":
            self.answer(401, b"expired")
        elif self.server.refusal:
            self.answer(*self.server.refusal)
        else:
            self.answer(200, b'{"items": []}')

    def do_PUT(self) -> None:
        server, body = self.server, self.body()
        span, _, total = self.headers["Content-Range"].removeprefix("bytes ").partition("/")
        if server.broken:
            self.answer(503)
            return
        if span != "*":
            start, end = map(int, span.split("-"))
            if (start, end - start + 1) != (len(server.got), len(body)):
                self.answer(400, b"out of order")
                return
            server.parts.append(len(body))
            if len(server.parts) % 3 == 0:
                server.got += body[: len(body) // 2]
                self.close_connection = True
                return
            server.got += body
        if total != "*" and len(server.got) == int(total):
            digest = base64.b64encode(hashlib.md5(server.got).digest()).decode()
            self.answer(200, json.dumps({"size": str(len(server.got)), "md5Hash": digest}).encode())
        else:
            self.answer(308, **({"Range": f"bytes=0-{len(server.got) - 1}"} if server.got else {}))


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def open_storage(server: Server, **more: str) -> GoogleStorage:
    given = {
        "WALG_GS_PREFIX": "gs://b/p",
        "GCS_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "GCS_MAX_CHUNK_SIZE": str(MIB),
        **more,
    }
    return create(Config([*CORE_SETTINGS, *SETTINGS], flags=given), given["WALG_GS_PREFIX"])


@pytest.mark.parametrize("size", [MIB, 4 * MIB, 5 * MIB + 7])
def test_an_upload_goes_on_where_it_stopped(server: Server, size: int) -> None:
    data = os.urandom(size)
    assert open_storage(server).put("object", IterReader([data])) == size
    assert bytes(server.got) == data
    assert sum(server.parts) < size + 2 * MIB
    assert not server.cancelled


def test_an_upload_that_fails_is_cancelled(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload.Upload, "_pause", lambda *_: None)
    server.broken = True
    with pytest.raises(TransientError):
        open_storage(server, GCS_MAX_RETRIES="2").put("object", IterReader([bytes(3 * MIB)]))
    assert server.cancelled


def test_customer_keys_go_with_every_part_and_nowhere_else(server: Server) -> None:
    key = base64.b64encode(os.urandom(32)).decode()
    storage = open_storage(server, GCS_ENCRYPTION_KEY=key)
    storage.put("object", IterReader([bytes(2 * MIB)]))
    assert {headers.get("x-goog-encryption-key") for headers in server.headers} == {key}
    server.headers.clear()
    assert [*storage.list()] == []
    assert "x-goog-encryption-key" not in server.headers[0]


def service_account(server: Server, path: Path) -> str:
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
    from cryptography.hazmat.primitives import serialization

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "private_key": private.decode(),
        "client_email": "backup@project.example",
        "token_uri": f"http://127.0.0.1:{server.server_port}/token",
    }
    path.write_text(json.dumps(account))
    return str(path)


def test_a_service_account_gets_a_token_and_renews_a_refused_one(server: Server, tmp_path: Path) -> None:
    path = service_account(server, tmp_path / "key.json")
    storage = open_storage(server, GOOGLE_APPLICATION_CREDENTIALS=path)
    assert [*storage.list()] == []
    assert [*storage.list()] == []
    assert server.tokens == 2
    assert server.headers[-1]["authorization"] == "Bearer token-2"


def test_an_authorized_user_gets_a_token(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's library knows one address for these tokens and takes no other from the file."""
    address = f"http://127.0.0.1:{server.server_port}/token"
    monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", address)
    user = {
        "type": "authorized_user",
        "client_id": "id",
        "client_secret": "secret",
        "refresh_token": "refresh",
    }
    (tmp_path / "user.json").write_text(json.dumps(user))
    storage = open_storage(server, GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "user.json"))
    assert [*storage.list()] == []
    assert server.tokens == 2


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (403, "forbidden", AccessDenied),
        (403, "rateLimitExceeded", Throttled),
        (429, "rateLimitExceeded", Throttled),
        (500, "backendError", TransientError),
        (503, "backendError", Throttled),
        (408, "", TransientError),
    ],
)
def test_what_answers_mean(server: Server, status: int, reason: str, kind: type[Exception]) -> None:
    explanation = {"error": {"code": status, "message": "no", "errors": [{"reason": reason}]}}
    server.refusal = status, json.dumps(explanation).encode()
    with pytest.raises(kind):
        open_storage(server).stat("x")
