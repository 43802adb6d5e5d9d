"""Requests to one Swift account: connections, tokens and what the answers mean."""

import threading
import time

from walg_core.errors import (
    AccessDenied,
    NoSpace,
    ObjectExists,
    ObjectNotFound,
    PermanentError,
    StorageError,
    Throttled,
    TransientError,
)

from walg_storage_swift.body import in_pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from walg_storage_swift.identity import Access, Identity

FRESH = 60.0
"""Seconds after a success in which the token is taken for good."""
NOT_TLS = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")
LONG = 1800.0
"""Seconds for requests in which the server moves data and says nothing."""


class Session:
    """May be used by several threads at once. `timeout` and `connect_timeout` are in seconds."""

    def __init__(
        self, identity: "Identity", *, connect_timeout: float, timeout: float, certificates: str | None, agent: str
    ) -> None:
        self._identity = identity
        self._access = identity.given()
        self._lock = threading.Lock()
        self._good_until = 0.0
        self._times = (connect_timeout, timeout)
        self._certificates = certificates
        self._agent = agent
        self._pools: Any = None
        self._pools_lock = threading.Lock()

    def access(self) -> "Access":
        """The token at hand, or a new one when there is none or it is about to expire."""
        with self._lock:
            if self._access is None or self._access.is_stale():
                self._access = self._identity.ask(self._send_to_identity)
            return self._access

    def _renew(self, refused: str) -> None:
        with self._lock:
            if self._access is None or self._access.token == refused:
                self._access = self._identity.ask(self._send_to_identity)

    def _send_to_identity(self, method: str, url: str, headers: "dict[str, str]", body: "bytes | None") -> "Any":
        response = self._send(method, url, headers, body, hint="check OS_AUTH_URL (or ST_AUTH)")
        if response.status >= 500 or response.status == 429:
            raise failure(response, f"the identity service {url}", "")
        return response

    def assure(self) -> None:
        """Before a body that cannot be sent twice: make sure that the token is good. Costs a request at most."""
        if time.monotonic() > self._good_until:
            self.request("HEAD", "", doing="look at the account", accept=(404, 403))

    def request(
        self,
        method: str,
        path: str,
        query: "Mapping[str, str] | None" = None,
        headers: "Mapping[str, str] | None" = None,
        body: "bytes | Iterator[bytes] | None" = None,
        *,
        key: str = "",
        doing: str,
        stream: bool = False,
        timeout: float | None = None,
        accept: "tuple[int, ...]" = (),
    ) -> "Any":
        """The answer to a request below the account. `path` is not quoted yet.

        Answers of 2xx and those in `accept` are returned, others raise what they mean. With `stream` the answer's body
        is not read. An iterator as `body` is sent once, bytes again when the token had expired.
        """
        from urllib.parse import quote, urlencode

        tail = f"?{urlencode(query)}" if query else ""
        for last in (False, True):
            access = self.access()
            url = f"{access.storage_url}/{quote(path)}".rstrip("/") + tail
            sent = {"X-Auth-Token": access.token, **(headers or {})}
            if isinstance(body, bytes):
                sent["Content-Length"] = str(len(body))
            pieces = in_pieces(body) if isinstance(body, bytes) else body
            response = self._send(method, url, sent, pieces, stream=stream, timeout=timeout)
            if response.status != 401:
                break
            response.drain_conn()
            self._renew(access.token)
            if last or not (body is None or isinstance(body, bytes)):
                break
        if 200 <= response.status < 300:
            self._good_until = time.monotonic() + FRESH
            return response
        if response.status in accept:
            return response
        if stream:
            response.read()
        raise failure(response, doing, key)

    def _send(
        self,
        method: str,
        url: str,
        headers: "dict[str, str]",
        body: "bytes | Iterator[bytes] | None",
        *,
        stream: bool = False,
        timeout: float | None = None,
        hint: str = "is the network or the object store down? check OS_STORAGE_URL and OS_ENDPOINT_TYPE",
    ) -> "Any":
        import urllib3
        from urllib3.exceptions import HTTPError, LocationValueError, SSLError

        host = url.partition("?")[0]
        try:
            return self._pool(url).request(
                method,
                url,
                headers={"User-Agent": self._agent, **headers},
                body=body,
                retries=False,
                redirect=False,
                preload_content=not stream,
                timeout=urllib3.Timeout(connect=self._times[0], read=timeout or self._times[1]),
            )
        except SSLError as error:
            if not any(word in str(error) for word in NOT_TLS):
                raise TransientError(f"{host}: {_reason(error)}", hint=hint) from error
            raise PermanentError(
                f"{host} has no certificate that we trust: {error}", hint="check OS_CACERT and the URL"
            ) from error
        except LocationValueError as error:
            raise PermanentError(f"'{host}' is not a URL: {error}", hint="check OS_AUTH_URL") from error
        except (HTTPError, OSError) as error:
            raise TransientError(f"{host}: {_reason(error)}", hint=hint) from error

    def _pool(self, url: str) -> "Any":
        with self._pools_lock:
            if self._pools is None:
                self._pools = _make_pools(self._certificates, url)
            return self._pools

    def close(self) -> None:
        pools, self._pools = self._pools, None
        if pools is not None:
            pools.clear()


def _make_pools(certificates: str | None, url: str) -> "Any":
    """Connections, through the proxy that the environment names for this URL."""
    import os

    import urllib3

    options: dict[str, Any] = {"num_pools": 4, "maxsize": 32}
    if certificates:
        options["ca_certs"] = certificates
    if any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ):
        from urllib.parse import urlsplit
        from urllib.request import getproxies, proxy_bypass

        parts = urlsplit(url)
        proxies = getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        if proxy and not proxy_bypass(parts.hostname or ""):
            return urllib3.ProxyManager(proxy, **options)
    return urllib3.PoolManager(**options)


def _reason(error: Exception) -> str:
    """What happened, in words, without the library's objects."""
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProtocolError, ReadTimeoutError

    cause = error.args[1] if isinstance(error, ProtocolError) and len(error.args) > 1 else error.__cause__ or error
    words = getattr(cause, "strerror", None) or str(cause)
    if isinstance(error, ReadTimeoutError):
        return "no answer in time"
    if isinstance(error, NewConnectionError):
        return f"cannot be reached: {words}"
    if isinstance(error, ConnectTimeoutError):
        return "cannot be reached in time"
    return f"the connection broke: {words}"


def failure(response: "Any", doing: str, key: str) -> StorageError:
    """The error that a status means."""
    status = response.status
    said = _first_line(response)
    text = f"cannot {doing}: status {status}{said}"
    if status == 404:
        return ObjectNotFound(key)
    if status in (401, 403):
        return AccessDenied(
            f"Swift denies access: cannot {doing} (status {status})",
            key=key,
            hint="check OS_USERNAME, OS_PASSWORD, OS_PROJECT_NAME and the rights on the container",
        )
    if status == 412:
        return ObjectExists(key)
    if status == 413:
        if "quota" in said.lower():
            return NoSpace(text, key=key, hint="the account's or container's quota is used up")
        return PermanentError(
            text, key=key, hint="the object is larger than the server takes: set SWIFT_SEGMENT_SIZE (1gb, for example)"
        )
    if status == 507:
        return NoSpace(text, key=key)
    if status in (429, 498, 503):
        wish = response.headers.get("Retry-After") or ""
        return Throttled(text, key=key, retry_after=float(wish) if wish.isdigit() else None)
    if status >= 500 or status in (408, 409, 422, 499):
        return TransientError(text, key=key)
    return PermanentError(text, key=key, hint="check WALG_SWIFT_PREFIX and OS_STORAGE_URL")


def _first_line(response: "Any") -> str:
    """What the server says, without its markup; short."""
    body: bytes = response.data or b""
    if not body or b"\0" in body[:300]:
        return ""
    import re

    plain = " ".join(re.sub("<[^>]*>", " ", body[:600].decode(errors="replace")).split())
    return f" ({plain[:200]})" if plain else ""
