"""Requests of the JSON API: who asks, over which connections, and what the answers mean."""

import json

from walg_core.errors import (
    AccessDenied,
    ConfigError,
    NoSpace,
    ObjectExists,
    ObjectNotFound,
    PermanentError,
    StorageError,
    Throttled,
    TransientError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

GOOGLE = "https://storage.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
CONNECT, ANSWER = 30.0, 60.0
"""Seconds until a connection stands, and of silence on one."""
_FULL = ("quota", "storagelimit")


class Session:
    """Connections to one server and the token that is sent over them. Safe for several threads."""

    def __init__(self, endpoint: str, credentials: str | None, *, anonymous: bool, bucket: str, where: str) -> None:
        import threading

        import urllib3

        self.endpoint = endpoint.rstrip("/")
        self.bucket = bucket
        self.where = where
        self._anonymous = anonymous
        self._path = credentials
        self._lock = threading.Lock()
        self._credentials: Any = None
        self._bucket_seen = False
        limits: Any = {
            "maxsize": 16,
            "retries": False,
            "timeout": urllib3.Timeout(connect=CONNECT, read=ANSWER),
        }
        proxy = _proxy_for(self.endpoint)
        self.pool: Any = urllib3.ProxyManager(proxy, **limits) if proxy else urllib3.PoolManager(**limits)

    # Requests.

    def request(
        self,
        method: str,
        path: str,
        *,
        query: "Mapping[str, str] | None" = None,
        headers: "Mapping[str, str] | None" = None,
        body: "bytes | memoryview | None" = None,
        good: "Iterable[int]" = (200,),
        stream: bool = False,
        key: str = "",
    ) -> "Any":
        """The answer, when its status is a `good` one. Raises StorageError; a token that is refused is renewed once.

        A streamed answer is the caller's to release.
        """
        from urllib.parse import urlencode

        url = self.endpoint + path + ("?" + urlencode(query) if query else "")
        for attempt in (1, 2):
            answer = self._send(method, url, {**(headers or {}), **self._authorization()}, body, stream)
            if answer.status in good:
                return answer
            if answer.status != 401 or self._anonymous or attempt == 2:
                break
            self._forget()
        text = answer.read(1 << 16, decode_content=True) if stream else answer.data
        if stream:
            answer.close()
        raise self.failure(answer.status, text, answer.headers, key)

    def _send(
        self, method: str, url: str, headers: "dict[str, str]", body: "bytes | memoryview | None", stream: bool
    ) -> "Any":
        import urllib3

        try:
            return self.pool.request(method, url, headers=headers, body=body, preload_content=not stream)
        except urllib3.exceptions.SSLError as error:
            raise PermanentError(
                f"{self.where}: no trusted connection to {self.endpoint}: {_brief(error)}",
                hint="check GCS_ENDPOINT, and the certificates that SSL_CERT_FILE names",
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TransientError(f"{self.where}: no answer from {self.endpoint}: {_brief(error)}") from error

    # Who asks.

    def _authorization(self) -> "dict[str, str]":
        if self._anonymous:
            return {}
        with self._lock:
            if self._credentials is None:
                self._credentials = self._load()
            if not self._credentials.valid:
                self._refresh()
            headers: dict[str, str] = {}
            self._credentials.apply(headers)
            return headers

    def _load(self) -> "Any":
        import google.auth
        from google.auth import exceptions

        try:
            if self._path:
                found = google.auth.load_credentials_from_file(self._path, scopes=[SCOPE])  # type: ignore[no-untyped-call]
            else:
                found = google.auth.default(scopes=[SCOPE])
        except (exceptions.GoogleAuthError, OSError, ValueError) as error:
            if self._path:
                raise ConfigError(
                    f"GOOGLE_APPLICATION_CREDENTIALS: {self._path} does not hold usable credentials",
                    hint="download the key file of a service account again, or write the file with gcloud",
                ) from error
            raise ConfigError(
                "no credentials for Google Cloud Storage were found",
                hint="set GOOGLE_APPLICATION_CREDENTIALS, or run on a machine with a service account",
            ) from error
        return found[0]

    def _refresh(self) -> None:
        from google.auth import exceptions
        from google.auth.transport.urllib3 import Request

        try:
            self._credentials.refresh(Request(self.pool))  # type: ignore[no-untyped-call]
        except exceptions.RefreshError as error:
            if getattr(error, "retryable", False):
                raise TransientError(f"{self.where}: no access token: {_brief(error)}") from error
            raise AccessDenied(
                f"{self.where}: the credentials give no access token: {_brief(error)}",
                hint="check GOOGLE_APPLICATION_CREDENTIALS: the key may be deleted, the clock wrong, the role missing",
            ) from error
        except exceptions.GoogleAuthError as error:
            raise TransientError(f"{self.where}: no access token: {_brief(error)}") from error

    def _forget(self) -> None:
        with self._lock:
            if self._credentials is not None:
                self._credentials.expiry = None
                self._credentials.token = None

    # What an answer means.

    def failure(self, status: int, body: bytes, headers: "Mapping[str, str]", key: str) -> StorageError:
        """The class that says what to do about an answer that is none of success."""
        reason, words = _explanation(body)
        message = (
            f"{self.where}: HTTP {status} for '{key}': {words}" if key else f"{self.where}: HTTP {status}: {words}"
        )
        if status == 404 and key:
            return self._not_found(key, words)
        if status == 404:
            return self._no_bucket()
        if status == 412:
            return ObjectExists(key)
        if status == 507 or (status == 403 and any(word in reason.lower() for word in _FULL)):
            return NoSpace(message, key=key)
        if status == 429 or status == 503 or "ratelimit" in reason.lower():
            return Throttled(message, key=key, retry_after=_seconds(headers.get("Retry-After")))
        if status in (401, 403):
            return AccessDenied(
                message, key=key, hint="check GOOGLE_APPLICATION_CREDENTIALS and the account's role on the bucket"
            )
        if status in (408, 409) or status >= 500:
            return TransientError(message, key=key)
        hint = "check GCS_ENCRYPTION_KEY" if "encrypt" in (reason + words).lower() else "check WALG_GS_PREFIX"
        return PermanentError(message, key=key, hint=hint)

    def _not_found(self, key: str, words: str) -> StorageError:
        """A missing bucket must not pass for a missing object: one look at it in the life of the session."""
        if "bucket" in words.lower():
            return self._no_bucket()
        if not self._bucket_seen:
            try:
                self.request("GET", f"/storage/v1/b/{self.bucket}/o", query={"maxResults": "1", "fields": "kind"})
            except AccessDenied:
                pass  # Rights to objects without the right to list them: the answer stands as it is.
            except StorageError as error:
                return error
            self._bucket_seen = True
        return ObjectNotFound(key, where=self.where)

    def _no_bucket(self) -> PermanentError:
        return PermanentError(
            f"{self.where}: the bucket '{self.bucket}' does not exist or is not to be seen",
            hint="check WALG_GS_PREFIX and GOOGLE_APPLICATION_CREDENTIALS",
        )

    def close(self) -> None:
        self.pool.clear()


def _explanation(body: bytes) -> tuple[str, str]:
    """Google's reason and message."""
    try:
        error = json.loads(body)["error"]
        reason = error["errors"][0].get("reason", "") if error.get("errors") else error.get("status", "")
        return str(reason), str(error["message"])[:300]
    except (ValueError, KeyError, TypeError, IndexError):
        return "", body[:300].decode("utf-8", "replace").strip() or "no explanation"


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdigit() else None


def _brief(error: BaseException) -> str:
    return str(error).replace("\n", " ")[:300]


def _proxy_for(url: str) -> str | None:
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
