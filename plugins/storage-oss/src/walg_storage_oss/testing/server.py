"""An OSS endpoint for tests, path style: `python -m walg_storage_oss.testing.server DIRECTORY`.

Signatures of version 1 and 4 are checked, for the key `ak`/`sk` and for those of the role that STS' AssumeRole gives
here too. Objects lie in files; the port is written to DIRECTORY/port. Below `/_control/` tests make it misbehave:
`fail/STATUS/CODE/TIMES` answers the next requests so, `fail-after/…` after having done what they ask for, `log` tells
the requests since it was asked last, `expire` ends the role's keys, `versioned` lets deletions leave markers.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import sys
import threading
import time
import uuid
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from fastcrc.crc64 import xz

from walg_storage_oss.testing.signatures import Refusal, Signed

ROLE = "acs:ram::1:role/backup"
XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_KEPT = ("x-oss-meta-", "x-oss-storage-class", "content-type")
PIECE = 1 << 20


class Stored(NamedTuple):
    path: str
    size: int
    md5: str
    crc: str
    time: float
    headers: dict[str, str]


class State:
    """Everything that the server keeps; `lock` guards it."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.lock = threading.RLock()
        self.buckets: dict[str, dict[str, Stored]] = {}
        self.uploads: dict[str, tuple[str, str, dict[int, Stored], dict[str, str]]] = {}
        self.keys: dict[str, tuple[str, str]] = {"ak": ("sk", "")}
        self.failures: list[tuple[bool, Refusal]] = []
        self.seen: list[str] = []
        self.versioned = False

    def new_path(self) -> str:
        return os.path.join(self.base, uuid.uuid4().hex)

    def store(self, stream: Any, length: int, headers: dict[str, str]) -> Stored:
        """Keep `length` bytes of the stream in a file."""
        path, md5, crc, left = self.new_path(), new_md5(), 0, length
        with open(path, "wb") as file:
            while left:
                piece = stream.read(min(left, PIECE))
                if not piece:
                    raise ConnectionError("the body ended early")
                md5.update(piece)
                crc = xz(piece, crc)
                file.write(piece)
                left -= len(piece)
        return Stored(path, length, md5.hexdigest().upper(), str(crc), time.time(), headers)

    def join(self, parts: list[Stored], headers: dict[str, str]) -> Stored:
        path, crc = self.new_path(), 0
        with open(path, "wb") as file:
            for part in parts:
                with open(part.path, "rb") as source:
                    while piece := source.read(PIECE):
                        crc = xz(piece, crc)
                        file.write(piece)
                os.unlink(part.path)
        md5 = new_md5("".join(part.md5 for part in parts).encode())
        etag = f"{md5.hexdigest().upper()}-{len(parts)}"
        size = sum(part.size for part in parts)
        return Stored(path, size, etag, str(crc), time.time(), headers)


def new_md5(data: bytes = b"") -> Any:
    return hashlib.md5(data, usedforsecurity=False)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    state: State

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Tests ask for the log by `/_control/log`."""

    # The frame of a request.

    def handle_request(self) -> None:
        parts = urlsplit(self.path)
        self.bucket, _, self.key = unquote(parts.path.lstrip("/")).partition("/")
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.length = int(self.headers.get("Content-Length") or 0)
        self.consumed = self.muted = False
        try:
            if self.bucket == "_control":
                return self.answer(200, json.dumps(self.control(self.key.split("/"))).encode(), "application/json")
            if self.query.get("Action") == "AssumeRole":
                return self.assume_role()
            self.state.seen.append(f"{self.command} {self.path}")
            after = self.planned_failure()
            Signed(self.command, self.path, self.headers, self.bucket, self.key, self.state.keys).check()
            self.muted = after is not None
            self.act()
            self.muted = False
            if after:
                raise after
        except Refusal as refusal:
            self.refuse(refusal)
        return None

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_request

    def planned_failure(self) -> Refusal | None:
        with self.state.lock:
            if not self.state.failures:
                return None
            after, refusal = self.state.failures.pop()
        if after:
            return refusal
        raise refusal

    def refuse(self, refusal: Refusal) -> None:
        self.muted = False
        if not self.consumed:
            self.body()
        detail = f"<Message>{escape(refusal.message)}</Message><RequestId>0</RequestId><HostId>h</HostId>"
        body = f"{XML}<Error><Code>{refusal.code}</Code>{detail}</Error>".encode()
        more = {"x-oss-err": base64.b64encode(body).decode()} if self.command == "HEAD" else {}
        self.answer(refusal.status, b"" if self.command == "HEAD" else body, headers=more)

    def body(self) -> bytes:
        self.consumed = True
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(self.length)
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def take(self, headers: dict[str, str]) -> Stored:
        """The body into a file."""
        import io

        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = self.body()
            stored = self.state.store(io.BytesIO(data), len(data), headers)
        else:
            self.consumed = True
            stored = self.state.store(self.rfile, self.length, headers)
        given = self.headers.get("Content-MD5")
        if given and base64.b64decode(given).hex().upper() != stored.md5:
            raise Refusal(400, "InvalidDigest")
        return stored

    def answer(
        self,
        status: int,
        body: bytes = b"",
        kind: str = "application/xml",
        headers: dict[str, str] | None = None,
    ) -> None:
        if self.muted:
            return
        self.send_response(status)
        self.send_header("x-oss-request-id", uuid.uuid4().hex.upper())
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def xml(self, root: str, body: str, headers: dict[str, str] | None = None) -> None:
        self.answer(200, f"{XML}<{root}>{body}</{root}>".encode(), headers=headers)

    def control(self, words: list[str]) -> Any:
        state = self.state
        with state.lock:
            if words[0] in ("fail", "fail-after"):
                refusal = Refusal(int(words[1]), words[2], "told to")
                state.failures = [(words[0] == "fail-after", refusal)] * int(words[3])
            elif words[0] == "expire":
                state.keys = {"ak": state.keys["ak"]}
            elif words[0] == "versioned":
                state.versioned = words[1] == "on"
            elif words[0] == "bucket":
                state.buckets.setdefault(words[1], {})
            elif words[0] == "uploads":
                return len(state.uploads)
            seen, state.seen = state.seen, []
            return seen

    def assume_role(self) -> None:
        query = dict(self.query)
        found = query.pop("Signature")
        pairs = "&".join(f"{quote(k, safe='~')}={quote(query[k], safe='~')}" for k in sorted(query))
        text = f"GET&%2F&{quote(pairs, safe='~')}"
        expected = base64.b64encode(hmac.new(b"sk&", text.encode(), hashlib.sha1).digest()).decode()
        if query["AccessKeyId"] != "ak":
            return self.answer(404, b'{"Code":"InvalidAccessKeyId.NotFound"}', "application/json")
        if found != expected:
            return self.answer(400, b'{"Code":"SignatureDoesNotMatch"}', "application/json")
        if query["RoleArn"] != ROLE:
            return self.answer(403, b'{"Code":"NoPermission"}', "application/json")
        key, secret, token = f"STS.{uuid.uuid4().hex}", uuid.uuid4().hex, uuid.uuid4().hex
        self.state.keys[key] = (secret, token)
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + int(query["DurationSeconds"])))
        keys = {"AccessKeyId": key, "AccessKeySecret": secret, "SecurityToken": token, "Expiration": end}
        return self.answer(200, json.dumps({"Credentials": keys}).encode(), "application/json")

    # Operations.

    def act(self) -> None:
        if self.bucket not in self.state.buckets and not (self.command == "PUT" and not self.key):
            raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist.")
        if not self.key:
            return self.act_on_bucket()
        if "uploads" in self.query and self.command == "POST":
            return self.initiate()
        if "uploadId" in self.query:
            return self.act_on_upload()
        if self.command == "PUT":
            return self.copy() if self.headers.get("x-oss-copy-source") else self.put()
        if self.command == "DELETE":
            with self.state.lock:
                self.state.buckets[self.bucket].pop(self.key, None)
            return self.answer(204)
        return self.get()

    def act_on_bucket(self) -> None:
        if self.command == "PUT":
            self.state.buckets.setdefault(self.bucket, {})
            return self.answer(200)
        if self.command == "POST" and "delete" in self.query:
            return self.delete_many()
        if "uploads" in self.query:
            rows = [
                f"<Upload><Key>{escape(row[1])}</Key><UploadId>{name}</UploadId></Upload>"
                for name, row in self.state.uploads.items()
            ]
            return self.xml("ListMultipartUploadsResult", "<IsTruncated>false</IsTruncated>" + "".join(rows))
        if "versioning" in self.query:
            return self.xml("VersioningConfiguration", "<Status>Enabled</Status>" if self.state.versioned else "")
        return self.list()

    def delete_many(self) -> None:
        tree = ElementTree.fromstring(self.body())  # noqa: S314 - from our own tests
        encoded = self.query.get("encoding-type") == "url" or tree.findtext("EncodingType") == "url"
        keys = [row.findtext("Key") or "" for row in tree.iter("Object")]
        with self.state.lock:
            for key in keys:
                self.state.buckets[self.bucket].pop(key, None)
        marker = "<DeleteMarker>true</DeleteMarker>" if self.state.versioned else ""
        rows = [f"<Deleted><Key>{quote(key) if encoded else escape(key)}</Key>{marker}</Deleted>" for key in keys]
        quiet = tree.findtext("Quiet") == "true"
        kind = "<EncodingType>url</EncodingType>" if encoded else ""
        self.xml("DeleteResult", kind + ("" if quiet else "".join(rows)))

    def list(self) -> None:
        query = self.query
        encode = quote if query.get("encoding-type") == "url" else escape
        prefix, delimiter, most = query.get("prefix", ""), query.get("delimiter", ""), int(query.get("max-keys") or 100)
        token = query.get("continuation-token")
        after = (
            base64.b64decode(token).decode() if token else max(query.get("marker", ""), query.get("start-after", ""))
        )
        with self.state.lock:
            objects = dict(self.state.buckets[self.bucket])
        rows: list[str] = []
        folders: list[str] = []
        last, more = "", False
        for key in sorted(objects, key=str.encode):
            if not key.startswith(prefix) or key.encode() <= after.encode():
                continue
            rest = key[len(prefix) :]
            folder = prefix + rest.partition(delimiter)[0] + delimiter if delimiter and delimiter in rest else ""
            if folder and (folder <= after or folder in folders[-1:]):
                continue
            if len(rows) + len(folders) >= most:
                more = True
                break
            last = folder or key
            if folder:
                folders.append(folder)
            else:
                rows.append(self.row(encode(key), objects[key]))
        version = query.get("list-type") == "2"
        following = base64.b64encode(last.encode()).decode() if version else encode(last)
        name = "NextContinuationToken" if version else "NextMarker"
        self.xml(
            "ListBucketResult",
            f"<Name>{self.bucket}</Name><Prefix>{encode(prefix)}</Prefix><MaxKeys>{most}</MaxKeys>"
            f"<Delimiter>{encode(delimiter)}</Delimiter><IsTruncated>{str(more).lower()}</IsTruncated>"
            + ("<EncodingType>url</EncodingType>" if query.get("encoding-type") == "url" else "")
            + (f"<KeyCount>{len(rows) + len(folders)}</KeyCount>" if version else "")
            + (f"<{name}>{following}</{name}>" if more else "")
            + "".join(rows)
            + "".join(f"<CommonPrefixes><Prefix>{encode(each)}</Prefix></CommonPrefixes>" for each in folders),
        )

    def row(self, key: str, stored: Stored) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(stored.time))
        return (
            f'<Contents><Key>{key}</Key><LastModified>{moment}</LastModified><ETag>"{stored.md5}"</ETag>'
            f"<Type>Normal</Type><Size>{stored.size}</Size><StorageClass>Standard</StorageClass></Contents>"
        )

    def kept_headers(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if name.lower().startswith(_KEPT)}

    def keep(self, stored: Stored) -> None:
        with self.state.lock:
            objects = self.state.buckets[self.bucket]
            if self.headers.get("x-oss-forbid-overwrite") == "true" and self.key in objects:
                raise Refusal(409, "FileAlreadyExists", "The object you specified already exists")
            old = objects.get(self.key)
            objects[self.key] = stored
        # Whoever is reading the old one has it open.
        if old:
            os.unlink(old.path)

    def put(self) -> None:
        stored = self.take(self.kept_headers())
        self.keep(stored)
        self.answer(200, headers={"ETag": f'"{stored.md5}"', "x-oss-hash-crc64ecma": stored.crc})

    def find(self, bucket: str, key: str) -> Stored:
        with self.state.lock:
            found = self.state.buckets.get(bucket, {}).get(key)
        if not found:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.")
        return found

    def source(self) -> Stored:
        bucket, _, key = unquote(self.headers["x-oss-copy-source"]).lstrip("/").partition("/")
        return self.find(bucket, key)

    def copy(self) -> None:
        source = self.source()
        with open(source.path, "rb") as file:
            stored = self.state.store(file, source.size, source.headers)
        self.keep(stored)
        self.xml("CopyObjectResult", f'<ETag>"{stored.md5}"</ETag>')

    def initiate(self) -> None:
        name = uuid.uuid4().hex.upper()
        self.body()
        self.state.uploads[name] = (self.bucket, self.key, {}, self.kept_headers())
        encoded = self.query.get("encoding-type") == "url"
        key = quote(self.key) if encoded else escape(self.key)
        kind = "<EncodingType>url</EncodingType>" if encoded else ""
        self.xml("InitiateMultipartUploadResult", f"{kind}<Key>{key}</Key><UploadId>{name}</UploadId>")

    def act_on_upload(self) -> None:
        name = self.query["uploadId"]
        if name not in self.state.uploads:
            raise Refusal(404, "NoSuchUpload", "The specified upload does not exist.")
        parts = self.state.uploads[name][2]
        if self.command == "PUT":
            return self.part(parts)
        if self.command == "DELETE":
            for part in parts.values():
                os.unlink(part.path)
            del self.state.uploads[name]
            return self.answer(204)
        return self.complete(name, parts)

    def part(self, parts: dict[int, Stored]) -> None:
        number = int(self.query["partNumber"])
        if not self.headers.get("x-oss-copy-source"):
            stored = parts[number] = self.take({})
            return self.answer(200, headers={"ETag": f'"{stored.md5}"', "x-oss-hash-crc64ecma": stored.crc})
        source = self.source()
        span = re.match(r"bytes=(\d+)-(\d+)", self.headers.get("x-oss-copy-source-range", ""))
        first, last = (int(span[1]), int(span[2])) if span else (0, source.size - 1)
        with open(source.path, "rb") as file:
            file.seek(first)
            stored = parts[number] = self.state.store(file, last - first + 1, {})
        return self.xml("CopyPartResult", f'<ETag>"{stored.md5}"</ETag>', {"ETag": f'"{stored.md5}"'})

    def complete(self, name: str, parts: dict[int, Stored]) -> None:
        tree = ElementTree.fromstring(self.body())  # noqa: S314 - from our own tests
        wanted = [
            (int(p.findtext("PartNumber") or 0), (p.findtext("ETag") or "").strip('"')) for p in tree.iter("Part")
        ]
        if wanted != sorted(wanted):
            raise Refusal(400, "InvalidPartOrder")
        for place, (number, etag) in enumerate(wanted, 1):
            if number not in parts or parts[number].md5 != etag.upper():
                raise Refusal(400, "InvalidPart")
            if place < len(wanted) and parts[number].size < 100 << 10:
                raise Refusal(400, "EntityTooSmall")
        if self.headers.get("x-oss-forbid-overwrite") == "true" and self.key in self.state.buckets[self.bucket]:
            raise Refusal(409, "FileAlreadyExists", "The object you specified already exists")
        stored = self.state.join([parts[number] for number, _ in wanted], self.state.uploads[name][3])
        self.keep(stored)
        del self.state.uploads[name]
        more = {"x-oss-hash-crc64ecma": stored.crc}
        self.xml("CompleteMultipartUploadResult", f'<Key>{escape(self.key)}</Key><ETag>"{stored.md5}"</ETag>', more)

    def get(self) -> None:
        stored = self.find(self.bucket, self.key)
        headers = {
            "ETag": f'"{stored.md5}"', "Last-Modified": formatdate(stored.time, usegmt=True),
            "x-oss-object-type": "Normal", "x-oss-hash-crc64ecma": stored.crc, "Accept-Ranges": "bytes",
        }  # fmt: skip
        first, last, status = 0, stored.size - 1, 200
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span and self.command == "GET":
            start, end = int(span[1]), int(span[2] or stored.size)
            standard = self.headers.get("x-oss-range-behavior") == "standard"
            if start < stored.size and (standard or end < stored.size or not span[2]):
                first, last, status = start, min(end, stored.size - 1), 206
                headers["Content-Range"] = f"bytes {first}-{last}/{stored.size}"
            elif standard:
                raise Refusal(416, "InvalidRange", "The requested range cannot be satisfied")
        try:
            file = open(stored.path, "rb")  # noqa: SIM115 - closed below
        except FileNotFoundError:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.") from None
        with file:
            file.seek(first)
            left = last - first + 1
            self.answer(status, b"", "application/octet-stream", {**headers, "Content-Length": str(left)})
            while left > 0 and self.command == "GET" and not self.muted and (piece := file.read(min(left, PIECE))):
                self.wfile.write(piece)
                left -= len(piece)


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that are lost are part of the tests."""


def main(base: str) -> None:
    """Serve from the directory `base` for ever."""
    Handler.state = State(base)
    server = Server(("127.0.0.1", 0), Handler)
    with open(f"{base}/port.new", "w", encoding="utf-8") as file:
        file.write(str(server.server_address[1]))
    os.link(f"{base}/port.new", f"{base}/port")
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
