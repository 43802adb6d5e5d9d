"""Tokens from Swift's own authentication (v1) and from Keystone (v2.0, v3).

The forms of the requests are those of the OpenStack Identity API reference; which setting means what is in
spec/storages.md 4.5.
"""

import time

from walg_core.errors import AccessDenied, ConfigError, PermanentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from walg_core.settings.config import Config

    Send = Callable[[str, str, dict[str, str], bytes | None], Any]

WHO = {
    1: "ST_USER (or OS_USERNAME) and ST_KEY (or OS_PASSWORD)",
    2: "OS_USERNAME, OS_PASSWORD and OS_TENANT_NAME",
    3: "OS_USERNAME, OS_PASSWORD, OS_PROJECT_NAME, OS_USER_DOMAIN_NAME and OS_PROJECT_DOMAIN_NAME",
}
_INTERFACES = ("public", "internal", "admin")


class Access:
    """Where the account is and the token for it. `expires`: Unix time, or None when the service did not say."""

    __slots__ = ("expires", "storage_url", "token")

    def __init__(self, storage_url: str, token: str, expires: float | None = None) -> None:
        self.storage_url = storage_url.rstrip("/")
        self.token = token
        self.expires = expires

    def is_stale(self, margin: float = 120.0) -> bool:
        return self.expires is not None and time.time() > self.expires - margin


class Identity:
    """Who we are, read from the settings. Raises ConfigError when they do not suffice; touches no network."""

    def __init__(self, config: "Config") -> None:
        def first(*names: str) -> str:
            return next((str(value) for name in names if (value := config.get(name))), "")

        self.url = first("OS_AUTH_URL", "ST_AUTH").rstrip("/")
        self.user, self.user_id = first("OS_USERNAME", "ST_USER"), first("OS_USER_ID")
        self.password = first("OS_PASSWORD", "ST_KEY")
        self.project, self.project_id = (
            first("OS_PROJECT_NAME", "OS_TENANT_NAME"),
            first("OS_PROJECT_ID", "OS_TENANT_ID"),
        )
        self.user_domain = _domain(first("OS_USER_DOMAIN_NAME"), first("OS_USER_DOMAIN_ID"))
        own = (first("OS_PROJECT_DOMAIN_NAME"), first("OS_PROJECT_DOMAIN_ID"))
        self.project_domain = _domain(*own) if any(own) else self.user_domain
        self.trust = first("OS_TRUST_ID")
        self.credential, self.credential_id = (
            first("OS_APPLICATION_CREDENTIAL_NAME"), first("OS_APPLICATION_CREDENTIAL_ID")
        )  # fmt: skip
        self.credential_secret = first("OS_APPLICATION_CREDENTIAL_SECRET")
        self.region = first("OS_REGION_NAME")
        self.interface = "internal" if config.get("GOSWIFT_INTERNAL") else _interface(first("OS_ENDPOINT_TYPE"))
        self.storage_url, self.token = first("OS_STORAGE_URL"), first("OS_AUTH_TOKEN")
        self.version = 0
        if self.url:
            self.version = _version(self.url, first("ST_AUTH_VERSION", "OS_IDENTITY_API_VERSION"))
            self._check()
        elif not (self.storage_url and self.token):
            raise ConfigError(
                "Swift needs an identity service: OS_AUTH_URL (or ST_AUTH) is not set",
                hint="OS_AUTH_URL=https://keystone:5000/v3, with OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME",
            )

    def _check(self) -> None:
        by_credential = self.version == 3 and (self.credential_id or self.credential)
        wanted = (
            (("OS_APPLICATION_CREDENTIAL_SECRET", self.credential_secret),)
            if by_credential
            else (("OS_USERNAME", self.user or self.user_id), ("OS_PASSWORD", self.password))
        )
        missing = [name for name, value in wanted if not value]
        if missing and not (self.storage_url and self.token):
            needed = " and ".join(missing)
            raise ConfigError(f"Swift: {needed} must be set for {self.url}", hint=f"set {WHO[self.version]}")

    def given(self) -> Access | None:
        """The access that the settings spell out, without asking anybody."""
        return Access(self.storage_url, self.token) if self.storage_url and self.token else None

    def ask(self, send: "Send") -> Access:
        """A new token. Raises AccessDenied, PermanentError, what `send` raises."""
        if not self.url:
            raise AccessDenied(
                "Swift refuses the token of OS_AUTH_TOKEN, and without OS_AUTH_URL there is no other",
                hint="set OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME",
            )
        access = (_ask_v1, _ask_v2, _ask_v3)[self.version - 1](self, send)
        return Access(self.storage_url, access.token, access.expires) if self.storage_url else access

    def checked(self, response: "Any") -> "Any":
        """The response when it is a success."""
        if response.status in (200, 201, 204, 203):
            return response
        if response.status in (401, 403):
            raise AccessDenied(
                f"the identity service {self.url} refuses the credentials (status {response.status})",
                hint=f"check {WHO[self.version]}",
            )
        raise PermanentError(
            f"{self.url} does not answer like an identity service of version {self.version} (status {response.status})",
            hint="check OS_AUTH_URL and ST_AUTH_VERSION",
        )

    def choose(self, endpoints: "list[tuple[str, str, str]]") -> str:
        """The URL of our region and interface among (region, interface, URL)."""
        for region, interface, url in endpoints:
            if interface == self.interface and self.region in ("", region):
                return url
        if not endpoints:
            raise PermanentError(
                f"{self.url} knows no object store for this project",
                hint="check OS_PROJECT_NAME; without a project the token has no catalogue",
            )
        there = ", ".join(sorted({f"{region} ({interface})" for region, interface, _ in endpoints}))
        raise PermanentError(
            f"{self.url} has no object store in region '{self.region}' ({self.interface}), only in: {there}",
            hint="check OS_REGION_NAME and OS_ENDPOINT_TYPE",
        )


def _domain(name: str, identifier: str) -> "dict[str, str]":
    return {"name": name} if name else {"id": identifier or "default"}


def _interface(text: str) -> str:
    found = text.lower().removesuffix("url")
    if found not in _INTERFACES:
        raise ConfigError(f"OS_ENDPOINT_TYPE is '{text}': expected one of {', '.join(_INTERFACES)}")
    return found


def _version(url: str, asked: str) -> int:
    if asked:
        number = asked.lstrip("v").partition(".")[0]
        if number not in ("1", "2", "3"):
            raise ConfigError(f"ST_AUTH_VERSION is '{asked}': expected 1, 2 or 3")
        return int(number)
    parts = url.partition("://")[2].split("/")[1:]
    for part in reversed(parts):
        if part in ("v1", "v1.0", "v2.0", "v2", "v3"):
            return int(part[1])
    return 3


def _ask_v1(who: Identity, send: "Send") -> Access:
    response = who.checked(send("GET", who.url, {"X-Auth-User": who.user, "X-Auth-Key": who.password}, None))
    found = response.headers
    token = found.get("X-Auth-Token") or found.get("X-Storage-Token")
    if not token or not found.get("X-Storage-Url"):
        raise PermanentError(f"{who.url} gave no token and storage URL", hint="check ST_AUTH (or OS_AUTH_URL)")
    lifetime = found.get("X-Auth-Token-Expires") or ""
    return Access(found["X-Storage-Url"], token, time.time() + int(lifetime) if lifetime.isdigit() else None)


def _ask_v2(who: Identity, send: "Send") -> Access:
    auth: dict[str, Any] = {"passwordCredentials": {"username": who.user, "password": who.password}}
    if who.project_id:
        auth["tenantId"] = who.project_id
    elif who.project:
        auth["tenantName"] = who.project
    base = who.url if who.url.rpartition("/")[2] in ("v2.0", "v2") else f"{who.url}/v2.0"
    access = _json(who, _post(send, f"{base}/tokens", {"auth": auth}, who), "access")
    endpoints = [
        (row.get("region") or "", interface, row[f"{interface}URL"])
        for service in access.get("serviceCatalog", [])
        if service.get("type") == "object-store"
        for row in service.get("endpoints", [])
        for interface in _INTERFACES
        if row.get(f"{interface}URL")
    ]
    token = access["token"]
    return Access(who.storage_url or who.choose(endpoints), token["id"], _moment(token.get("expires")))


def _ask_v3(who: Identity, send: "Send") -> Access:
    base = who.url if who.url.endswith("/v3") else f"{who.url}/v3"
    response = _post(send, f"{base}/auth/tokens", {"auth": _v3_request(who)}, who)
    token = _json(who, response, "token")
    endpoints = [
        (row.get("region_id") or row.get("region") or "", row.get("interface", ""), row["url"])
        for service in token.get("catalog", [])
        if service.get("type") == "object-store"
        for row in service.get("endpoints", [])
    ]
    url = who.storage_url or who.choose(endpoints)
    return Access(url, response.headers["X-Subject-Token"], _moment(token.get("expires_at")))


def _v3_request(who: Identity) -> "dict[str, Any]":
    user: dict[str, Any] = {"id": who.user_id} if who.user_id else {"name": who.user, "domain": who.user_domain}
    if who.credential_id or who.credential:
        chosen: dict[str, Any] = {"secret": who.credential_secret}
        if who.credential_id:
            chosen["id"] = who.credential_id
        else:
            chosen |= {"name": who.credential, "user": user}
        return {"identity": {"methods": ["application_credential"], "application_credential": chosen}}
    request: dict[str, Any] = {
        "identity": {"methods": ["password"], "password": {"user": {**user, "password": who.password}}}
    }
    if who.trust:
        request["scope"] = {"OS-TRUST:trust": {"id": who.trust}}
    elif who.project_id:
        request["scope"] = {"project": {"id": who.project_id}}
    elif who.project:
        request["scope"] = {"project": {"name": who.project, "domain": who.project_domain}}
    return request


def _post(send: "Send", url: str, body: "dict[str, Any]", who: Identity) -> "Any":
    import json

    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    return who.checked(send("POST", url, headers, json.dumps(body).encode()))


def _json(who: Identity, response: "Any", part: str) -> "Any":
    import json

    try:
        return json.loads(response.data)[part]
    except (ValueError, KeyError, TypeError):
        raise PermanentError(
            f"{who.url} does not answer like an identity service of version {who.version}",
            hint="check OS_AUTH_URL and ST_AUTH_VERSION",
        ) from None


def _moment(text: "Any") -> float | None:
    """RFC 3339 to Unix time; None for what is not a time."""
    from datetime import UTC, datetime

    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
