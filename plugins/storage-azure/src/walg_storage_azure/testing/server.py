"""In-memory Azure Blob endpoint: Shared Key signatures, block blobs, ranges, copies, listings, conditions, batches.

python -m walg_storage_azure.testing.server PORTFILE
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from walg_core.io import atomic

from walg_storage_azure.testing import ACCOUNT, CONTAINERS, KEY

_SIGNED = ("content-md5", "content-type", "date", "if-modified-since", "if-match", "if-none-match",
           "if-unmodified-since", "range")  # fmt: skip


@dataclass(slots=True)
class Blob:
    """An object with what a client may ask of it."""

    data: bytes
    tag: str = field(default_factory=lambda: f'"0x{time.time_ns():X}"')
    changed: float = field(default_factory=time.time)


CONTENTS: dict[str, dict[str, Blob]] = {name: {} for name in CONTAINERS}
BLOCKS: dict[tuple[str, str], dict[str, bytes]] = {}
LOCK = threading.Lock()


class Refusal(Exception):
    """An HTTP status with Azure's error code."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def handle_any(self) -> None:
        """Authenticate, act, answer."""
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query, keep_blank_values=True))
        body = self._body()
        rest = unquote(url.path).lstrip("/").partition("/")[2]
        self.container, _, self.blob = rest.partition("/")
        try:
            self._authenticate(url.path, url.query)
            with LOCK:
                self._act(body)
        except Refusal as refusal:
            text = f'<?xml version="1.0"?><Error><Code>{refusal.code}</Code><Message>{refusal.code}</Message></Error>'
            self._answer(refusal.status, text.encode(), {"x-ms-error-code": refusal.code})

    do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = handle_any

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _authenticate(self, path: str, query: str) -> None:
        headers = {name.lower(): value.strip() for name, value in self.headers.items()}
        given = headers.get("authorization", "")
        if not given.startswith("SharedKey "):
            raise Refusal(403, "AuthorizationFailure")
        account, _, signature = given[10:].partition(":")
        length = headers.get("content-length", "")
        lines = [self.command, headers.get("content-encoding", ""), headers.get("content-language", "")]
        lines += ["" if length == "0" else length, *(headers.get(name, "") for name in _SIGNED)]
        lines += [f"{name}:{headers[name]}" for name in sorted(headers) if name.startswith("x-ms-")]
        pairs = sorted(parse_qsl(query, keep_blank_values=True))
        lines.append(f"/{ACCOUNT}{path}" + "".join(f"\n{name.lower()}:{value}" for name, value in pairs))
        digest = hmac.new(base64.b64decode(KEY), "\n".join(lines).encode(), hashlib.sha256).digest()
        if account != ACCOUNT or not hmac.compare_digest(base64.b64encode(digest).decode(), signature):
            raise Refusal(403, "AuthenticationFailed")

    def _answer(self, status: int = 200, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("x-ms-request-id", str(uuid.uuid4()))
        self.send_header("x-ms-version", self.headers.get("x-ms-version", "2021-12-02"))
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _act(self, body: bytes) -> None:
        if self.container not in CONTENTS:
            raise Refusal(404, "ContainerNotFound")
        blobs, what = CONTENTS[self.container], (self.command, self.query.get("comp"))
        if what == ("GET", "list") and not self.blob:
            self._list(blobs)
        elif what == ("POST", "batch"):
            self._batch(blobs, body)
        elif what == ("PUT", "block"):
            self._blocks()[self.query["blockid"]] = body
            self._answer(201)
        elif what == ("PUT", "blocklist"):
            self._join(blobs, body)
        elif self.command == "PUT" and self.headers.get("x-ms-copy-source"):
            self._copy(blobs)
        elif self.command == "PUT":
            self._put(blobs, body)
        elif self.blob not in blobs:
            raise Refusal(404, "BlobNotFound")
        elif self.command == "DELETE":
            del blobs[self.blob]
            self._answer(202)
        else:
            self._get(blobs[self.blob])

    def _blocks(self) -> dict[str, bytes]:
        return BLOCKS.setdefault((self.container, self.blob), {})

    def _join(self, blobs: dict[str, Blob], body: bytes) -> None:
        names = [str(each.text) for each in ET.fromstring(body)]  # noqa: S314 - of our own tests
        blocks = self._blocks()
        if any(name not in blocks for name in names):
            raise Refusal(400, "InvalidBlockList")
        self._put(blobs, b"".join(blocks[name] for name in names))

    def _put(self, blobs: dict[str, Blob], data: bytes) -> None:
        if self.headers.get("If-None-Match") == "*" and self.blob in blobs:
            raise Refusal(409, "BlobAlreadyExists")
        blobs[self.blob] = made = Blob(data)
        BLOCKS.pop((self.container, self.blob), None)
        self._answer(201, b"", {"ETag": made.tag, "Last-Modified": formatdate(made.changed, usegmt=True)})

    def _copy(self, blobs: dict[str, Blob]) -> None:
        path = unquote(urlsplit(self.headers["x-ms-copy-source"]).path).lstrip("/").partition("/")[2]
        container, _, name = path.partition("/")
        if name not in CONTENTS.get(container, {}):
            raise Refusal(404, "CannotVerifyCopySource")
        blobs[self.blob] = made = Blob(CONTENTS[container][name].data)
        headers = {"ETag": made.tag, "x-ms-copy-id": str(uuid.uuid4()), "x-ms-copy-status": "success"}
        self._answer(202, b"", {**headers, "Last-Modified": formatdate(made.changed, usegmt=True)})

    def _get(self, blob: Blob) -> None:
        headers = {"ETag": blob.tag, "Last-Modified": formatdate(blob.changed, usegmt=True), "Accept-Ranges": "bytes"}
        headers |= {"x-ms-blob-type": "BlockBlob", "Content-Type": "application/octet-stream"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("x-ms-range") or self.headers.get("Range") or "")
        if not wanted:
            self._answer(200, blob.data, headers)
            return
        size = len(blob.data)
        first, last = int(wanted[1]), min(int(wanted[2] or size), size - 1)
        if first >= size:
            raise Refusal(416, "InvalidRange")
        self._answer(206, blob.data[first : last + 1], headers | {"Content-Range": f"bytes {first}-{last}/{size}"})

    def _list(self, blobs: dict[str, Blob]) -> None:
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter", "")
        most, after = int(self.query.get("maxresults") or 5000), self.query.get("marker", "")
        parts: list[str] = []
        folders: set[str] = set()
        following = ""
        for name in sorted(name for name in blobs if name.startswith(prefix) and name >= after):
            inner = name[len(prefix) :]
            folder = prefix + inner.partition(delimiter)[0] + delimiter if delimiter and delimiter in inner else ""
            if folder in folders:
                continue
            if len(parts) >= most:
                following = name
                break
            if folder:
                folders.add(folder)
                parts.append(f"<BlobPrefix><Name>{escape(folder)}</Name></BlobPrefix>")
            else:
                parts.append(_entry(name, blobs[name]))
        text = (
            f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="{self.container}">'
            f"<Prefix>{escape(prefix)}</Prefix><Blobs>{''.join(parts)}</Blobs>"
            f"<NextMarker>{escape(following)}</NextMarker></EnumerationResults>"
        )
        self._answer(200, text.encode(), {"Content-Type": "application/xml"})

    def _batch(self, blobs: dict[str, Blob], body: bytes) -> None:
        boundary = self.headers["Content-Type"].partition("boundary=")[2].encode()
        answer = b""
        for part in body.split(b"--" + boundary)[1:-1]:
            number = re.search(rb"(?i)content-id: *(\S+)", part)
            target = re.search(rb"DELETE (\S+) HTTP", part)
            assert number is not None
            assert target is not None
            path = unquote(urlsplit(target[1].decode()).path).lstrip("/").partition("/")[2]
            found = blobs.pop(path.partition("/")[2], None)
            status = b"202 Accepted" if found else b"404 The specified blob does not exist."
            answer += b"--batch\r\nContent-Type: application/http\r\nContent-ID: " + number[1]
            answer += b"\r\n\r\nHTTP/1.1 " + status + b"\r\nx-ms-request-id: 1\r\n\r\n"
        self._answer(202, answer + b"--batch--\r\n", {"Content-Type": "multipart/mixed; boundary=batch"})


def _entry(name: str, blob: Blob) -> str:
    changed = formatdate(blob.changed, usegmt=True)
    tag = blob.tag.strip('"')
    return (
        f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{changed}</Last-Modified><Etag>{tag}</Etag>"
        f"<Content-Length>{len(blob.data)}</Content-Length><Content-Type>application/octet-stream</Content-Type>"
        "<BlobType>BlockBlob</BlobType></Properties></Blob>"
    )


def main(directory: str) -> None:
    """Serve for ever; the port stands in DIRECTORY/port as soon as it is open."""
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer.daemon_threads = True
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    atomic.write_file(os.path.join(directory, "port"), str(server.server_port).encode())
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
