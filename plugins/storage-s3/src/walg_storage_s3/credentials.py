"""Keys that expire: roles, web identity, containers, instances, Yandex Cloud's metadata (spec/storages.md 3.2).

Static keys and profiles never come here; nothing here is imported for them.
"""

import json
import os
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from walg_core.errors import AccessDenied, ConfigError, TransientError

from walg_storage_s3.rest import document
from walg_storage_s3.signing import Keys, sign

_ECS_HOST = "http://169.254.170.2"
_METADATA = "http://169.254.169.254"
_EARLY = 300
"""Keys are renewed so many seconds before they expire."""


class Expiring(NamedTuple):
    """Keys and the Unix time of their end (None: never)."""

    keys: Keys
    expires: float | None


class Provider:
    """Keys from `fetch`, kept until shortly before their end. Thread-safe; also what obstore calls for credentials."""

    def __init__(self, fetch: Callable[[], Expiring]) -> None:
        self._fetch = fetch
        self._held: Expiring | None = None
        self._lock = threading.Lock()

    def held(self) -> Expiring:
        """Raises AccessDenied, ConfigError, TransientError."""
        with self._lock:
            held = self._held
            if held is None or (held.expires is not None and time.time() > held.expires - _EARLY):
                self._held = held = self._fetch()
            return held

    def __call__(self) -> dict[str, Any]:
        keys, expires = self.held()
        # obstore asks again at this time.
        until = datetime.fromtimestamp(max(expires - _EARLY, time.time() + 60), UTC) if expires else None
        return {
            "access_key_id": keys.key,
            "secret_access_key": keys.secret,
            "token": keys.token or None,
            "expires_at": until,
        }


def assumed_role(role: str, session: str, base: Callable[[], Keys], region: str, endpoint: str = "") -> Expiring:
    """STS AssumeRole, signed with `base`."""
    form = {"Action": "AssumeRole", "RoleArn": role, "RoleSessionName": session, "Version": "2011-06-15"}
    body = urllib.parse.urlencode(form).encode()
    url = endpoint or f"https://sts.{region}.amazonaws.com/"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    signed = sign("POST", url, headers, body, base(), region, "sts")
    return _sts(url, body, signed, f"the role {role} of AWS_ROLE_ARN")


def web_identity(region: str, endpoint: str = "") -> Expiring | None:
    """STS AssumeRoleWithWebIdentity with the token file that the environment names; None without one."""
    path, role = os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"), os.environ.get("AWS_ROLE_ARN")
    if not path or not role:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            token = file.read().strip()
    except OSError as error:
        raise ConfigError(f"AWS_WEB_IDENTITY_TOKEN_FILE: cannot read {path}: {error.strerror}") from error
    session = os.environ.get("AWS_ROLE_SESSION_NAME") or f"wal-g-{os.getpid()}"
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "RoleArn": role,
        "RoleSessionName": session,
        "WebIdentityToken": token,
        "Version": "2011-06-15",
    }
    url = endpoint or f"https://sts.{region}.amazonaws.com/"
    return _sts(url, urllib.parse.urlencode(form).encode(), {}, f"the web identity's role {role}")


def container() -> Expiring | None:
    """The keys that ECS or EKS offers a container; None outside of one."""
    path = os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    url = f"{_ECS_HOST}{path}" if path else os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if not url:
        return None
    token = os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    if file_name := os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        with open(file_name, encoding="utf-8") as file:
            token = file.read().strip()
    answer = _ask(url, {"Authorization": token} if token else {}, "the container's credentials")
    return _metadata_keys(answer)


def instance() -> Expiring:
    """The keys of the machine's role, by the second version of the metadata service."""
    host = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", _METADATA).rstrip("/")
    what = "the instance's role"
    token = _ask(f"{host}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "300"}, what, "PUT").decode()
    headers = {"X-aws-ec2-metadata-token": token}
    url = f"{host}/latest/meta-data/iam/security-credentials/"
    name = _ask(url, headers, what).decode().split("\n", 1)[0]
    return _metadata_keys(_ask(url + urllib.parse.quote(name), headers, what))


def chain(region: str, sts: str = "") -> Expiring:
    """What the environment offers: web identity, container, instance, in this order.

    Raises ConfigError that names the settings when there is nothing.
    """
    found = web_identity(region, sts) or container()
    if found:
        return found
    try:
        return instance()
    except (TransientError, AccessDenied) as error:
        raise ConfigError(
            f"no credentials for S3: no static keys, no profile, no role of the environment ({error})",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        ) from error


def _metadata_keys(answer: bytes) -> Expiring:
    try:
        given = json.loads(answer)
        keys = Keys(given["AccessKeyId"], given["SecretAccessKey"], given.get("Token") or "")
    except (ValueError, KeyError, TypeError) as error:
        raise AccessDenied("the metadata service's answer has no keys in it") from error
    return Expiring(keys, _time(given.get("Expiration")))


def _time(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def _sts(url: str, body: bytes, headers: dict[str, str], what: str) -> Expiring:
    answer = _ask(url, {"Content-Type": "application/x-www-form-urlencoded", **headers}, what, "POST", body)
    found = {element.tag.rpartition("}")[2]: element.text or "" for element in document(answer).iter()}
    if "AccessKeyId" not in found:
        raise AccessDenied(f"{what}: the answer has no keys in it", hint="check AWS_ROLE_ARN")
    keys = Keys(found["AccessKeyId"], found["SecretAccessKey"], found.get("SessionToken", ""))
    return Expiring(keys, _time(found.get("Expiration")))


def _ask(url: str, headers: dict[str, str], what: str, method: str = "GET", body: bytes | None = None) -> bytes:
    """The answer's body; two more tries for what may pass, all within ten seconds."""
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{what}: {url} is no http URL")
    last = ""
    for attempt in range(3):
        request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310 - http only, see above
        try:
            with urllib.request.urlopen(request, timeout=2 if body is None else 5) as answer:  # noqa: S310
                data: bytes = answer.read(1 << 20)
                return data
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise AccessDenied(
                    f"{what} is refused: HTTP {error.code}", hint="check AWS_ROLE_ARN and the keys that may assume it"
                ) from error
            last = f"HTTP {error.code}"
        except OSError as error:
            last = str(getattr(error, "reason", error))
        time.sleep(0.2 * attempt)
    raise TransientError(f"{what} cannot be had from {urllib.parse.urlsplit(url).netloc}: {last}")
