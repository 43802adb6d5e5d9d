"""Versions of objects: ListObjectVersions and the deletion of exactly these versions (spec/storages.md 3.4)."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from walg_core.errors import AccessDenied, PermanentError, StorageError
from walg_core.storage.api import ObjectInfo

from walg_storage_s3.rest import Rest, document

_LOCKED = "AccessDenied"


class Version(NamedTuple):
    """One version, or a delete marker, of the object with this whole key."""

    key: str
    info: ObjectInfo


def is_enabled(rest: Rest) -> bool:
    """Whether the bucket keeps versions; a server that does not know the question keeps none."""
    try:
        answer = rest.request("GET", "", {"versioning": ""})
    except (AccessDenied, PermanentError):
        return False
    return document(answer.body).findtext("{*}Status") == "Enabled"


def listed(rest: Rest, prefix: str) -> Iterator[Version]:
    """All versions and delete markers of keys that begin with `prefix`, by key, the newest first."""
    marker: dict[str, str] = {}
    while True:
        query = {"versions": "", "prefix": prefix, "encoding-type": "url", **marker}
        page = document(rest.request("GET", "", query).body)
        encoded = page.findtext("{*}EncodingType") == "url"
        found = [_version(element, encoded) for element in page if element.tag.endswith(("}Version", "}DeleteMarker"))]
        yield from sorted(found, key=lambda version: (version.key, -version.info.modified))
        if page.findtext("{*}IsTruncated") != "true":
            return
        marker = {
            "key-marker": _key(page.findtext("{*}NextKeyMarker"), encoded),
            "version-id-marker": page.findtext("{*}NextVersionIdMarker") or "",
        }


def _version(element: ElementTree.Element, encoded: bool) -> Version:
    key = _key(element.findtext("{*}Key"), encoded)
    info = ObjectInfo(
        key,
        int(element.findtext("{*}Size") or 0),
        datetime.fromisoformat(element.findtext("{*}LastModified") or "").timestamp(),
        element.findtext("{*}VersionId"),
        element.findtext("{*}ETag"),
        element.findtext("{*}IsLatest") == "true",
        None,
        element.tag.endswith("DeleteMarker"),
    )
    return Version(key, info)


def _key(text: str | None, encoded: bool) -> str:
    """Not every server does what `encoding-type` asks for; the answer says whether it did."""
    return unquote_plus(text or "") if encoded else text or ""


def delete(rest: Rest, objects: Sequence[tuple[str, str | None]]) -> None:
    """Delete these (whole key, version) pairs by one request; a version of None is left out of it.

    Raises AccessDenied when one of them is locked, StorageError for other failures; the rest is deleted all the same.
    """
    rows = "".join(
        f"<Object><Key>{escape(key)}</Key>{f'<VersionId>{escape(version)}</VersionId>' if version else ''}</Object>"
        for key, version in objects
    )
    body = f"<Delete><Quiet>true</Quiet>{rows}</Delete>".encode()
    digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    answer = rest.request("POST", "", {"delete": ""}, body, {"Content-MD5": digest, "Content-Type": "application/xml"})
    failed = [
        (element.findtext("{*}Key") or "", element.findtext("{*}Code") or "", element.findtext("{*}Message") or "")
        for element in document(answer.body).iter()
        if element.tag.rpartition("}")[2] == "Error"
    ]
    if not failed:
        return
    key, code, message = failed[0]
    text = f"{len(failed)} of {len(objects)} versions were not deleted, the first is '{key}': {code} {message}".rstrip()
    if code == _LOCKED:
        raise AccessDenied(
            text, key=key, hint="a lock (S3_RETENTION_PERIOD, the bucket's retention) or a missing right protects it"
        )
    raise StorageError(text, key=key)
