"""Alibaba Cloud OSS through its own SDK (spec/storages.md 4.6)."""

import threading

from walg_core.errors import ConfigError, IntegrityError, ObjectNotFound, PermanentError, StorageError, TransientError
from walg_core.pipeline.reader import BytesReader, Reader, read_exactly
from walg_core.storage.api import Capabilities, ObjectInfo, Storage
from walg_core.storage.keys import check_key, check_prefix, is_listable
from walg_core.storage.object_store import bucket_and_path

from walg_storage_oss.failures import no_bucket, translate
from walg_storage_oss.upload import LARGEST_PART, MOST_PARTS, Pieces, Upload, part_sizes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from walg_core.settings.config import Config

PAGE = 1000
SMALLEST_PART = 100 << 10
LARGEST_COPY = 200 << 20
"""Larger objects are copied in parts."""
TIMEOUT = 30
"""Seconds without a byte."""
PIECE = 256 << 10


def create(config: "Config", prefix: str) -> "OssStorage":
    """The storage of `WALG_OSS_PREFIX`. Raises ConfigError; touches no network."""
    bucket, path = bucket_and_path(prefix, "WALG_OSS_PREFIX")
    if not path:
        raise ConfigError(
            f"WALG_OSS_PREFIX is '{prefix}': a path is needed after the bucket",
            hint=f"for example oss://{bucket}/wal-g",
        )
    region = config.get("OSS_REGION")
    if not region:
        raise ConfigError("oss region is required", hint="set OSS_REGION, for example cn-hangzhou")
    if region.startswith("oss-"):
        raise ConfigError(
            f"OSS_REGION is '{region}', which is the name of a host",
            hint=f"set OSS_REGION={region.removeprefix('oss-')}",
        )
    key, secret = config.get("OSS_ACCESS_KEY_ID"), config.get("OSS_ACCESS_KEY_SECRET")
    if not key or not secret:
        raise ConfigError(
            "access key ID and secret are required", hint="set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"
        )
    _check_endpoint(config.get("OSS_ENDPOINT") or region)
    for name in ("OSS_UPLOAD_PART_SIZE", "OSS_COPY_PART_SIZE"):
        if config.get(name) < SMALLEST_PART:
            raise ConfigError(f"{name} is {config.get(name)}: OSS takes parts of at least {SMALLEST_PART} bytes")
    return OssStorage(
        lambda: _connect(config, region, key, secret),
        bucket,
        path,
        part_size=config.get("OSS_UPLOAD_PART_SIZE"),
        copy_part_size=config.get("OSS_COPY_PART_SIZE"),
        configuration=_configuration(config, bucket, path),
    )


def _check_endpoint(endpoint: str) -> None:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        good = parts.hostname and parts.scheme in ("http", "https") and parts.port != 0 and " " not in endpoint
    except ValueError:
        good = False
    if not good:
        raise ConfigError(
            f"OSS_ENDPOINT (or OSS_REGION) gives no URL: '{endpoint}'",
            hint="OSS_ENDPOINT=https://oss-cn-hangzhou.aliyuncs.com, for example",
        )


def _connect(config: "Config", region: str, key: str, secret: str) -> "Any":
    import alibabacloud_oss_v2 as oss

    token, arn = config.get("OSS_SESSION_TOKEN"), config.get("OSS_ROLE_ARN")
    if arn:
        from walg_storage_oss.role import AssumedRole

        role = AssumedRole(key, secret, token, arn, config.get("OSS_ROLE_SESSION_NAME"), _sts_endpoint(config, region))
        provider: Any = oss.credentials.CredentialsProviderFunc(lambda: oss.credentials.Credentials(*role.keys()))
    else:
        provider = oss.credentials.StaticCredentialsProvider(key, secret, token)
    endpoint = config.get("OSS_ENDPOINT") or ""
    return oss.Client(
        oss.Config(
            region=region,
            endpoint=endpoint or None,
            credentials_provider=provider,
            retry_max_attempts=config.get("OSS_MAX_RETRIES"),
            connect_timeout=config.get("OSS_CONNECT_TIMEOUT"),
            readwrite_timeout=TIMEOUT,
            use_path_style=_is_address(endpoint) or None,
            # The sums are compared here, made by a library that is forty times as fast.
            disable_upload_crc64_check=True,
        )
    )


def _sts_endpoint(config: "Config", region: str) -> str:
    """The region's service; beside an endpoint that is an address there is no other than that one."""
    endpoint = config.get("OSS_ENDPOINT") or ""
    if _is_address(endpoint):
        return str(endpoint) if "://" in endpoint else f"https://{endpoint}"
    return f"https://sts.{region}.aliyuncs.com"


def _is_address(endpoint: str) -> bool:
    """Whether the host is an IP address: buckets cannot stand before it."""
    import ipaddress
    from urllib.parse import urlsplit

    host = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}").hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _configuration(config: "Config", bucket: str, path: str) -> "dict[str, object]":
    """What identifies the storage, without secrets, in the order of the original's fields."""
    return {
        "Region": config.get("OSS_REGION"),
        "Bucket": bucket,
        "Endpoint": config.get("OSS_ENDPOINT") or "",
        "RootPath": path,
        "RoleARN": config.get("OSS_ROLE_ARN") or "",
        "MaxRetries": config.get("OSS_MAX_RETRIES"),
        "UploadPartSize": config.get("OSS_UPLOAD_PART_SIZE"),
        "CopyPartSize": config.get("OSS_COPY_PART_SIZE"),
    }


class OssStorage(Storage):
    """A bucket and a path in it. `connect` makes the SDK's client when it is first needed; sizes are in bytes."""

    def __init__(
        self,
        connect: "Callable[[], Any]",
        bucket: str,
        root: str,
        *,
        part_size: int,
        copy_part_size: int,
        configuration: "dict[str, object]",
    ) -> None:
        self._connect = connect
        self._client: Any = None
        self._lock = threading.Lock()
        self._bucket = bucket
        self._root = root + "/"
        self._part_size = part_size
        self._copy_part_size = copy_part_size
        self._configuration = configuration
        self._bucket_seen = self._warned = False
        self.description = f"oss://{bucket}/{root}"
        self.capabilities = Capabilities(
            put_if_absent=True,
            server_side_copy=True,
            max_object_size=max(part_size, LARGEST_PART) * MOST_PARTS,
            max_key_bytes=1023 - len(self._root.encode()),
        )

    def identity(self) -> str:
        from walg_core.storage.identity import go_json

        return "oss" + go_json(self._configuration)

    def _call(self, name: str, request: "Any", *, key: str = "", doing: str = "") -> "Any":
        """An operation of the client; its errors are ours."""
        try:
            with self._lock:
                if self._client is None:
                    self._client = self._connect()
                client = self._client
            return getattr(client, name)(request)
        except Exception as error:
            raise translate(error, doing or name.replace("_", " "), key, self.description) from error

    # Reading.

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        check_prefix(prefix)
        more = {"start_after": self._root + start_after} if start_after else {}
        for page in self._pages(prefix, more):
            for row in page.contents or ():
                info = self._info(row)
                if info and (start_after is None or info.key > start_after):
                    yield info

    def list_dir(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        check_prefix(prefix)
        for page in self._pages(prefix, {"delimiter": "/"}):
            yield from filter(None, map(self._info, page.contents or ()))

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        check_prefix(prefix)
        pages = self._pages(prefix, {"delimiter": "/"})
        return [row.prefix[len(self._root) :] for page in pages for row in page.common_prefixes or ()]

    def _pages(self, prefix: str, more: "dict[str, str]") -> "Iterator[Any]":
        import alibabacloud_oss_v2 as oss

        while True:
            request = oss.ListObjectsV2Request(
                bucket=self._bucket, prefix=self._root + prefix, max_keys=PAGE, encoding_type="url", **more
            )
            page = self._call("list_objects_v2", request, key=prefix, doing=f"list '{prefix}'")
            self._bucket_seen = True
            yield page
            if not page.is_truncated:
                return
            more["continuation_token"] = page.next_continuation_token

    def _info(self, row: "Any") -> ObjectInfo | None:
        key = row.key[len(self._root) :]
        if not is_listable(key):
            return None
        return ObjectInfo(key, row.size, row.last_modified.timestamp(), etag=(row.etag or "").strip('"') or None)

    def stat(self, key: str) -> ObjectInfo:
        check_key(key)
        import alibabacloud_oss_v2 as oss

        request = oss.HeadObjectRequest(bucket=self._bucket, key=self._root + key)
        try:
            found = self._call("head_object", request, key=key, doing=f"look at '{key}'")
        except ObjectNotFound:
            raise self._absent(key) from None
        return ObjectInfo(
            key, found.content_length or 0, found.last_modified.timestamp(), etag=(found.etag or "").strip('"') or None
        )

    def _absent(self, key: str) -> StorageError:
        """An object that is missing; or its bucket, which an answer to HEAD without details does not tell."""
        if not self._bucket_seen:
            import alibabacloud_oss_v2 as oss

            request = oss.ListObjectsV2Request(bucket=self._bucket, prefix=self._root, max_keys=1)
            try:
                self._call("list_objects_v2", request, key=key, doing=f"look for {self.description}")
            except ObjectNotFound:
                return no_bucket(self.description, key)
            self._bucket_seen = True
        return ObjectNotFound(key, where=self.description)

    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        check_key(key)
        if length == 0:
            self.stat(key)
            return BytesReader(b"")
        import alibabacloud_oss_v2 as oss

        more: dict[str, str] = {}
        if offset or length is not None:
            last = "" if length is None else str(offset + length - 1)
            # Without this behaviour OSS answers a range past the end with the whole object.
            more = {"range_header": f"bytes={offset}-{last}", "range_behavior": "standard"}
        request = oss.GetObjectRequest(bucket=self._bucket, key=self._root + key, accept_encoding="identity", **more)
        try:
            result = self._call("get_object", request, key=key, doing=f"read '{key}'")
        except ObjectNotFound:
            raise self._absent(key) from None
        except PermanentError as error:
            if "InvalidRange" in str(error) and self.stat(key).size <= offset:
                return BytesReader(b"")
            raise
        if more and result.status_code != 206 and result.content_length:
            result.body.close()
            raise PermanentError(f"cannot read '{key}' from byte {offset}: the server ignores ranges", key=key)
        return Download(result, key, "" if more else result.hash_crc64 or "")

    # Writing.

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        check_key(key)
        import alibabacloud_oss_v2 as oss

        path = self._root + key
        room = next(part_sizes(self._part_size, size))
        first = read_exactly(body, room)
        if len(first) < room:
            if size is not None and size != len(first):
                raise IntegrityError(f"put '{key}': the body has {len(first)} bytes, {size} were announced")
            return self._put_whole(key, first, if_absent)
        if if_absent and self.exists(key):
            from walg_core.errors import ObjectExists

            raise ObjectExists(key)
        upload = Upload(self._part_call(key), oss, self._bucket, path)
        try:
            count = upload.send(first, body, self._part_size, size)
            del first
            upload.complete(if_absent)
        except BaseException:
            upload.abort()
            raise
        return count

    def _put_whole(self, key: str, body: bytes, if_absent: bool) -> int:
        """In one request; OSS refuses it when the bytes are not those of the MD5."""
        import base64
        import hashlib

        import alibabacloud_oss_v2 as oss

        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        request = oss.PutObjectRequest(
            bucket=self._bucket,
            key=self._root + key,
            body=Pieces(body),
            content_md5=digest,
            forbid_overwrite=True if if_absent else None,
        )
        self._call("put_object", request, key=key, doing=f"store '{key}'")
        return len(body)

    def _part_call(self, key: str) -> "Callable[..., Any]":
        return lambda name, request: self._call(name, request, key=key, doing=f"store '{key}'")

    def delete(self, keys: "Iterable[str]") -> None:
        from itertools import islice

        import alibabacloud_oss_v2 as oss

        rest = iter(keys)
        while batch := [self._root + check_key(key) for key in islice(rest, PAGE)]:
            request = oss.DeleteMultipleObjectsRequest(
                bucket=self._bucket, encoding_type="url", objects=[oss.DeleteObject(key=path) for path in batch]
            )
            result = self._call("delete_multiple_objects", request, doing="delete objects")
            gone = {row.key for row in result.deleted_objects or ()}
            for path in batch:
                if path not in gone:
                    single = oss.DeleteObjectRequest(bucket=self._bucket, key=path)
                    key = path[len(self._root) :]
                    self._call("delete_object", single, key=key, doing=f"delete '{key}'")
            self._tell_of_versions(any(row.delete_marker for row in result.deleted_objects or ()))

    def _tell_of_versions(self, marked: bool) -> None:
        if marked and not self._warned:
            from walg_core.observe import log

            self._warned = True
            log.warning(
                f"{self.description}: the bucket keeps versions, what is deleted goes on taking space; "
                "give it a lifecycle rule for old versions"
            )

    def copy(self, source: str, target: str) -> None:
        check_key(source)
        check_key(target)
        import alibabacloud_oss_v2 as oss

        there, path = self._root + source, self._root + target
        size = self.stat(source).size
        if size <= LARGEST_COPY:
            request = oss.CopyObjectRequest(bucket=self._bucket, key=path, source_key=there)
            self._call("copy_object", request, key=source, doing=f"copy '{source}'")
            return
        part = max(self._copy_part_size, -(-size // MOST_PARTS))
        upload = Upload(self._part_call(target), oss, self._bucket, path)
        try:
            upload.copy(there, size, part)
            upload.complete(False)
        except BaseException:
            upload.abort()
            raise

    def close(self) -> None:
        # The SDK's client has no end of its own; its connections go with it.
        self._client = None


class Download:
    """Reads an answer; shorter than announced raises TransientError. `crc`: the CRC-64 of the whole, decimal."""

    def __init__(self, result: "Any", key: str, crc: str) -> None:
        self._body = result.body
        self._pieces = result.body.iter_bytes(block_size=PIECE)
        self._key = key
        self._left: int = result.content_length or 0
        self._rest = memoryview(b"")
        self._expected = crc
        self._crc = 0
        self.etag: str | None = (result.etag or "").strip('"') or None

    def read(self, size: int = -1, /) -> bytes:
        if not size:
            return b""
        while not self._rest:
            if not self._left or self._pieces is None:
                return b""
            self._rest = memoryview(self._next())
        out = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(out) :]
        return bytes(out)

    def _next(self) -> bytes:
        try:
            piece: bytes = next(self._pieces, b"")
        except Exception as error:
            self.close()
            raise TransientError(f"reading '{self._key}' broke off: {type(error).__name__}", key=self._key) from error
        if not piece:
            self.close()
            raise TransientError(f"'{self._key}' ended {self._left} bytes early", key=self._key)
        self._left -= len(piece)
        if self._expected:
            from fastcrc.crc64 import xz

            self._crc = xz(piece, self._crc)
        if self._left <= 0:
            self._finish()
        return piece

    def _finish(self) -> None:
        self._pieces = None
        self._body.close()
        if self._expected and str(self._crc) != self._expected:
            raise IntegrityError(f"object '{self._key}' is damaged: it has not the CRC-64 that OSS keeps")

    def close(self) -> None:
        self._pieces = None
        self._rest = memoryview(b"")
        self._body.close()
