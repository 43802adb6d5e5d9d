"""S3's own protocol for what obstore has no call for: versions, object lock, the region of a bucket."""

import http.client
import ssl
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

from walg_core.errors import (
    AccessDenied,
    ObjectExists,
    ObjectNotFound,
    PermanentError,
    StorageError,
    Throttled,
    TransientError,
)
from walg_core.observe import metrics

from walg_storage_s3.signing import Keys, sign

_TRIES = 4
_HINT = "check WALG_S3_PREFIX, AWS_ENDPOINT, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


class Answer(NamedTuple):
    """A successful answer."""

    headers: Mapping[str, str]
    body: bytes


class Rest:
    """Requests to one bucket. `base` is its URL, without a slash at the end; `headers` go with every request.

    Thread-safe: each request has its own connection.
    """

    def __init__(
        self,
        base: str,
        region: str,
        keys: Callable[[], Keys],
        *,
        headers: Mapping[str, str] | None = None,
        certificates: str | None = None,
        timeout: float = 60.0,
    ) -> None:
        self._base = base
        self._region = region
        self._keys = keys
        self._headers = dict(headers or {})
        self._timeout = timeout
        self._tls = ssl.create_default_context(cafile=certificates) if base.startswith("https:") else None

    def request(
        self,
        method: str,
        key: str = "",
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer; what may pass is tried again. Raises StorageError."""
        path = f"/{quote(key, safe='-_.~/')}" if key else "/"
        text = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in (query or {}).items())
        url = f"{self._base}{path}" + (f"?{text}" if text else "")
        for attempt in range(_TRIES):
            try:
                return self._once(method, url, key, body, {**self._headers, **(headers or {})})
            except TransientError as error:
                if attempt == _TRIES - 1:
                    raise
                wait = error.retry_after if isinstance(error, Throttled) else None
                time.sleep(min(wait or 0.2 * 2**attempt, 10.0))
        raise AssertionError("unreachable")

    def _once(self, method: str, url: str, key: str, body: bytes, headers: dict[str, str]) -> Answer:
        parts = urlsplit(url)
        signed = sign(method, url, headers, body, self._keys(), self._region)
        connection = (
            http.client.HTTPSConnection(parts.netloc, timeout=self._timeout, context=self._tls)
            if self._tls
            else http.client.HTTPConnection(parts.netloc, timeout=self._timeout)
        )
        try:
            connection.request(method, url[len(f"{parts.scheme}://{parts.netloc}") :], body, signed)
            answer = connection.getresponse()
            content = answer.read()
            found = {name.title(): value for name, value in answer.getheaders()}
        except ssl.SSLCertVerificationError as error:
            raise PermanentError(
                f"the server's certificate is not trusted: {error.verify_message}",
                hint="S3_CA_CERT_FILE names the certificates to trust",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(
                f"{method} '{key}' of S3: {str(error) or type(error).__name__}", key=key, hint=_HINT
            ) from error
        finally:
            connection.close()
        metrics.s3_response(answer.status)
        # Some calls answer 200 before they know how they will end, and tell it in the body.
        if answer.status < 300 and not _is_error(content):
            return Answer(found, content)
        raise _failure(answer.status, found, content, method, key)


def _failure(status: int, headers: Mapping[str, str], content: bytes, method: str, key: str) -> StorageError:
    code, message = _code(content)
    text = f"{method} '{key}' of S3: {code or f'HTTP {status}'}{f': {message}' if message else ''}"
    if code == "NoSuchBucket":
        return PermanentError(text, key=key, hint="check WALG_S3_PREFIX")
    if status == 404:
        return ObjectNotFound(key, where="S3")
    if status == 412:
        return ObjectExists(key)
    if status in (429, 503) or code == "SlowDown":
        wait = headers.get("Retry-After", "")
        return Throttled(text, key=key, retry_after=float(wait) if wait.isdigit() else None)
    if status in (401, 403):
        return AccessDenied(text, key=key, hint=_HINT)
    if status >= 500 or status in (200, 408, 409, 499):
        return TransientError(text, key=key)
    return PermanentError(text, key=key, hint=_HINT)


def document(content: bytes) -> ElementTree.Element:
    """The answer's XML. Raises TransientError when it is cut or is something else."""
    try:
        if b"<!DOCTYPE" in content:
            raise ValueError("a document type is declared")
        return ElementTree.fromstring(content)  # noqa: S314 - entities need the declaration that was refused above
    except (ElementTree.ParseError, ValueError) as error:
        raise TransientError(f"the answer of S3 is not the XML it should be: {error}") from error


def _is_error(content: bytes) -> bool:
    return b"<Error>" in content[:300] and document(content).tag.rpartition("}")[2] == "Error"


def _code(content: bytes) -> tuple[str, str]:
    """Code and message of an error's body."""
    try:
        found = {element.tag.rpartition("}")[2]: element.text or "" for element in document(content).iter()}
    except TransientError:
        return "", ""
    return found.get("Code", ""), found.get("Message", "")[:300]


def bucket_region(bucket: str, timeout: float = 5.0) -> str:
    """The region that Amazon says a bucket is in, asked without credentials; "" when it does not say."""
    host = "s3.amazonaws.com"
    connection = http.client.HTTPSConnection(host, timeout=timeout)
    try:
        connection.request("HEAD", f"/{quote(bucket)}")
        return connection.getresponse().headers.get("x-amz-bucket-region", "")
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
