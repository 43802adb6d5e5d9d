"""Google Cloud Storage through its JSON API (spec/storages.md 4.3). Objects are stored whole: no `_chunks` remain."""

import base64
import binascii
import hashlib
import json
import os
import threading
import time

from walg_core.errors import ConfigError, IntegrityError, ObjectExists, ObjectNotFound, PermanentError
from walg_core.pipeline.reader import read_exactly
from walg_core.storage.api import Capabilities, ObjectInfo, Storage
from walg_core.storage.identity import go_json
from walg_core.storage.keys import check_key, check_prefix, is_listable, key_problem
from walg_core.storage.object_store import bucket_and_path

from walg_storage_gcs.download import Download, Nothing
from walg_storage_gcs.session import GOOGLE, Session
from walg_storage_gcs.upload import GRAIN, Upload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from walg_core.pipeline.reader import Reader
    from walg_core.settings.config import Config

FIELDS = "name,size,updated,generation"
DELETERS = 16
LARGEST_PART = 16 << 20
"""Parts are kept in memory for another try; the object is the same whatever their size."""


def create(config: "Config", prefix: str) -> "GoogleStorage":
    """The storage of `WALG_GS_PREFIX`. Raises ConfigError; touches no network."""
    bucket, _ = bucket_and_path(prefix, "WALG_GS_PREFIX")
    from urllib.parse import unquote, urlsplit

    # Repeated slashes inside the path belong to the names, as in the original.
    path = unquote(urlsplit(prefix).path).strip("/")
    credentials: str | None = config.get("GOOGLE_APPLICATION_CREDENTIALS")
    if credentials and not os.path.isfile(credentials):
        raise ConfigError(f"GOOGLE_APPLICATION_CREDENTIALS: there is no file {credentials}")
    config.get("GCS_NORMALIZE_PREFIX")
    for name in ("GCS_CONTEXT_TIMEOUT", "GCS_MAX_CHUNK_SIZE"):
        if config.get(name) < 1:
            raise ConfigError(f"{name} is {config.get(name)}: expected a number above 0")
    endpoint, anonymous = _endpoint(config, credentials)
    where = f"gs://{bucket}/{path}".rstrip("/")
    return GoogleStorage(
        lambda: Session(endpoint, credentials, anonymous=anonymous, bucket=bucket, where=where),
        bucket,
        path,
        chunk=config.get("GCS_MAX_CHUNK_SIZE"),
        retries=max(0, config.get("GCS_MAX_RETRIES")),
        timeout=config.get("GCS_CONTEXT_TIMEOUT"),
        customer_key=_customer_key(config.get("GCS_ENCRYPTION_KEY")),
    )


def _endpoint(config: "Config", credentials: str | None) -> tuple[str, bool]:
    """The server's URL, and whether it is asked without credentials."""
    emulator: str | None = config.get("STORAGE_EMULATOR_HOST")
    endpoint: str | None = config.get("GCS_ENDPOINT")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"GCS_ENDPOINT is {endpoint!r}: expected a URL", hint="as https://HOST")
    if endpoint:
        return endpoint, endpoint.startswith("http://") and not credentials
    if emulator:
        return (emulator if "://" in emulator else f"http://{emulator}"), True
    return GOOGLE, False


def _customer_key(text: str | None) -> bytes | None:
    if not text:
        return None
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 32:
        raise ConfigError("GCS_ENCRYPTION_KEY is not the base64 form of 32 bytes", hint="openssl rand -base64 32")
    return key


class GoogleStorage(Storage):
    """A bucket and a path in it. `chunk` in bytes is the size of an upload's parts, `timeout` in seconds of one put."""

    def __init__(
        self,
        connect: "Any",
        bucket: str,
        path: str,
        *,
        chunk: int,
        retries: int,
        timeout: int,
        customer_key: bytes | None,
    ) -> None:
        self._connect = connect
        self._session: Session | None = None
        self._making = threading.Lock()
        self._bucket = bucket
        self._path = path
        self._root = path + "/" if path else ""
        self._configured_chunk = chunk
        self._chunk = max(GRAIN, min(chunk, LARGEST_PART) // GRAIN * GRAIN)
        self._retries = retries
        self._timeout = timeout
        self._key = customer_key
        self.description = f"gs://{bucket}/{path}".rstrip("/")
        self.capabilities = Capabilities(put_if_absent=True, server_side_copy=True, max_object_size=5 << 40)

    @property
    def session(self) -> Session:
        with self._making:
            if self._session is None:
                self._session = self._connect()
            return self._session

    def identity(self) -> str:
        uploader = {"MaxChunkSize": self._configured_chunk, "MaxRetries": self._retries}
        return "gcs" + go_json({
            "RootPath": self._path,
            "Bucket": self._bucket,
            "NormalizePrefix": True,
            "ContextTimeout": self._timeout * 1_000_000_000,
            "Uploader": uploader,
        })  # fmt: skip

    # Reading.

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        check_prefix(prefix)
        query = {"startOffset": self._root + start_after} if start_after else {}
        for page in self._pages(prefix, query):
            for info in self._infos(page):
                if start_after is None or info.key > start_after:
                    yield info

    def list_dir(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        check_prefix(prefix)
        for page in self._pages(prefix, {"delimiter": "/"}):
            yield from self._infos(page)

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        check_prefix(prefix)
        pages = self._pages(prefix, {"delimiter": "/"})
        found = {name[len(self._root) :] for page in pages for name in page.get("prefixes", ())}
        return sorted(name for name in found if not key_problem(name[:-1]))

    def _pages(self, prefix: str, query: "dict[str, str]") -> "Iterator[dict[str, Any]]":
        query = {
            "prefix": self._root + prefix,
            "maxResults": "1000",
            "fields": f"nextPageToken,prefixes,items({FIELDS})",
            **query,
        }
        while True:
            answer = self.session.request("GET", f"/storage/v1/b/{self._bucket}/o", query=query)
            page = json.loads(answer.data)
            yield page
            if not page.get("nextPageToken"):
                return
            query["pageToken"] = page["nextPageToken"]

    def _infos(self, page: "dict[str, Any]") -> "Iterator[ObjectInfo]":
        for item in page.get("items", ()):
            key = item["name"][len(self._root) :]
            if is_listable(key):
                yield _info(key, item)

    def stat(self, key: str) -> ObjectInfo:
        query = {"fields": FIELDS}
        return _info(key, json.loads(self.session.request("GET", self._url(key), query=query, key=key).data))

    def open(self, key: str, offset: int = 0, length: int | None = None) -> "Reader":
        url = self._url(key)
        if length == 0:
            self.stat(key)
            return Nothing()
        headers = {"Accept-Encoding": "gzip", **self._encryption()}
        if offset or length is not None:
            headers["Range"] = f"bytes={offset}-" + ("" if length is None else str(offset + length - 1))
        good = (200, 206, 416)
        session = self.session
        answer = session.request("GET", url, query={"alt": "media"}, headers=headers, good=good, stream=True, key=key)
        if answer.status == 416:
            answer.close()  # The body of such an answer may be of another length than announced: no use of the line.
            return Nothing()
        if offset and answer.status == 200:
            answer.close()
            raise PermanentError(f"{self.description}: the server sends '{key}' whole where a part was asked", key=key)
        announced = answer.headers.get("Content-Length")
        if announced is None:
            announced = json.loads(session.request("GET", url, query={"fields": "size"}, key=key).data)["size"]
        etag = answer.headers.get("x-goog-generation") or answer.headers.get("ETag")
        return Download(answer, key, int(announced), etag)

    # Writing.

    def put(self, key: str, body: "Reader", size: int | None = None, if_absent: bool = False) -> int:
        check_key(key)
        deadline = time.monotonic() + self._timeout
        first = read_exactly(body, self._chunk)
        watched = _Watched(first, body)
        query = {"name": self._root + key, "fields": "size,md5Hash,generation"}
        if if_absent:
            query["ifGenerationMatch"] = "0"
        path = f"/upload/storage/v1/b/{self._bucket}/o"
        headers = {"Content-Type": "application/octet-stream", **self._encryption()}
        if len(first) < self._chunk:
            if size is not None and size != len(first):
                raise IntegrityError(f"{key} was announced with {size} bytes but has {len(first)}")
            stored = self._small((path, query), first, key)
        else:
            if if_absent and self.exists(key):
                raise ObjectExists(key)
            upload = Upload(self.session, key, headers, self._retries, deadline)
            stored = upload.send((path, {**query, "uploadType": "resumable"}), first, watched, self._chunk, size)
        self._check(key, stored, watched)
        return watched.count

    def _small(self, place: "tuple[str, dict[str, str]]", data: bytes, key: str) -> "dict[str, Any]":
        """One request with the object's digest, which the server compares before anything is visible."""
        path, query = place
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        described = json.dumps({"name": query["name"], "md5Hash": digest}).encode()
        boundary = b"walg" + os.urandom(16).hex().encode()
        body = b"\r\n".join((
            b"--" + boundary, b"Content-Type: application/json; charset=UTF-8", b"", described,
            b"--" + boundary, b"Content-Type: application/octet-stream", b"", data, b"--" + boundary + b"--", b"",
        ))  # fmt: skip
        headers = {"Content-Type": f"multipart/related; boundary={boundary.decode()}", **self._encryption()}
        answer = self.session.request(
            "POST", path, query={**query, "uploadType": "multipart"}, headers=headers, body=body, key=key
        )
        stored: dict[str, Any] = json.loads(answer.data)
        return stored

    def _check(self, key: str, stored: "dict[str, Any]", sent: "_Watched") -> None:
        """Raises IntegrityError, and removes just that generation, when the server has stored other bytes."""
        digest = base64.b64encode(sent.hash.digest()).decode()
        if int(stored.get("size", sent.count)) == sent.count and stored.get("md5Hash", digest) == digest:
            return
        query = {"generation": stored["generation"]} if "generation" in stored else {}
        self.session.request("DELETE", self._url(key), query=query, good=(200, 204), key=key)
        raise IntegrityError(f"{self.description} stored other bytes of '{key}' than were sent; they were removed")

    def delete(self, keys: "Iterable[str]") -> None:
        wanted = [check_key(key) for key in keys]
        if len(wanted) < 2:
            for key in wanted:
                self._delete(key)
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(DELETERS, len(wanted)), "gcs-delete") as pool:
            for _ in pool.map(self._delete, wanted):
                pass

    def _delete(self, key: str) -> None:
        try:
            self.session.request("DELETE", self._url(key), good=(200, 204), key=key)
        except ObjectNotFound:
            return

    def copy(self, source: str, target: str) -> None:
        check_key(target)
        url = f"{self._url(source)}/rewriteTo/b/{self._bucket}/o/{self._quoted(target)}"
        headers = {**self._encryption(), **self._encryption("x-goog-copy-source-encryption")}
        query = {"fields": "done,rewriteToken"}
        while True:
            answer = self.session.request("POST", url, query=query, headers=headers, body=b"", key=source)
            done = json.loads(answer.data)
            if done.get("done", True):
                return
            query["rewriteToken"] = done["rewriteToken"]

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _url(self, key: str) -> str:
        return f"/storage/v1/b/{self._bucket}/o/{self._quoted(check_key(key))}"

    def _quoted(self, key: str) -> str:
        from urllib.parse import quote

        return quote(self._root + key, safe="")

    def _encryption(self, name: str = "x-goog-encryption") -> "dict[str, str]":
        if not self._key:
            return {}
        return {
            f"{name}-algorithm": "AES256",
            f"{name}-key": base64.b64encode(self._key).decode(),
            f"{name}-key-sha256": base64.b64encode(hashlib.sha256(self._key).digest()).decode(),
        }


class _Watched:
    """Counts and hashes a body of which `first` was read already."""

    def __init__(self, first: bytes, rest: "Reader") -> None:
        self._rest = rest
        self.hash = hashlib.md5(first, usedforsecurity=False)
        self.count = len(first)

    def read(self, size: int = -1, /) -> bytes:
        piece = self._rest.read(size)
        self.hash.update(piece)
        self.count += len(piece)
        return piece

    def close(self) -> None:
        """The body is its owner's to close."""


def _info(key: str, item: "dict[str, Any]") -> ObjectInfo:
    from walg_core.backups.times import parse

    modified = parse(item["updated"])
    return ObjectInfo(key, int(item.get("size", 0)), modified / 1e9, None, item.get("generation"), True, modified)
