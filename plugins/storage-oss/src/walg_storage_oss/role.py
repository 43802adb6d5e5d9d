"""Temporary keys of a role: the call AssumeRole of Alibaba Cloud's STS (its API reference, version 2015-04-01)."""

import threading
import time

from walg_core.errors import AccessDenied, PermanentError, TransientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIFETIME = 3600
"""Seconds for which the keys are asked for (spec/storages.md 4.6)."""
MARGIN = 300.0
"""Seconds before their end in which they are renewed."""


class AssumedRole:
    """Gives the keys of `arn` and renews them. `endpoint`: URL of the service."""

    def __init__(self, key: str, secret: str, token: str | None, arn: str, session: str, endpoint: str) -> None:
        self._own = (key, secret, token)
        self._arn = arn
        self._session = session
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._keys: tuple[str, str, str] | None = None
        self._until = 0.0

    def keys(self) -> tuple[str, str, str]:
        """Access key, its secret, session token. Raises AccessDenied, PermanentError, TransientError."""
        with self._lock:
            if self._keys is None or time.time() > self._until - MARGIN:
                self._keys, self._until = self._ask()
            return self._keys

    def _ask(self) -> tuple[tuple[str, str, str], float]:
        import requests

        parameters = self._signed()
        try:
            answer = requests.get(self._endpoint, params=parameters, timeout=(10, 30), allow_redirects=False)
        except requests.RequestException as error:
            raise TransientError(
                f"the STS service {self._endpoint} cannot be reached: {type(error).__name__}", hint="check OSS_REGION"
            ) from error
        try:
            found = answer.json()
        except ValueError:
            found = {}
        if answer.status_code == 200 and "Credentials" in found:
            given = found["Credentials"]
            keys = (given["AccessKeyId"], given["AccessKeySecret"], given["SecurityToken"])
            return keys, _moment(given["Expiration"])
        code = str(found.get("Code", f"status {answer.status_code}"))
        if answer.status_code >= 500 or code.startswith("Throttling"):
            raise TransientError(f"the STS service {self._endpoint} fails: {code}")
        if answer.status_code in (401, 403, 404) or "AccessKey" in code or "Signature" in code:
            raise AccessDenied(
                f"the role of OSS_ROLE_ARN is refused to these keys: {code}",
                hint="check OSS_ROLE_ARN, OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, and the role's trust policy",
            )
        raise PermanentError(
            f"the STS service refuses the request for the role: {code}",
            hint="check OSS_ROLE_ARN and OSS_ROLE_SESSION_NAME",
        )

    def _signed(self) -> "dict[str, Any]":
        import base64
        import hashlib
        import hmac
        import uuid

        key, secret, token = self._own
        parameters = {
            "Action": "AssumeRole",
            "Version": "2015-04-01",
            "Format": "JSON",
            "RoleArn": self._arn,
            "RoleSessionName": self._session,
            "DurationSeconds": str(LIFETIME),
            "AccessKeyId": key,
            "SignatureMethod": "HMAC-SHA1",
            "SignatureVersion": "1.0",
            "SignatureNonce": uuid.uuid4().hex,
            "Timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        if token:
            parameters["SecurityToken"] = token
        text = string_to_sign(parameters)
        digest = hmac.new(f"{secret}&".encode(), text.encode(), hashlib.sha1).digest()
        return {**parameters, "Signature": base64.b64encode(digest).decode()}


def string_to_sign(parameters: "dict[str, str]") -> str:
    """What is signed of a GET request (API reference, "Request signatures", version 1.0)."""
    from urllib.parse import quote

    query = "&".join(f"{quote(name, safe='~')}={quote(parameters[name], safe='~')}" for name in sorted(parameters))
    return f"GET&%2F&{quote(query, safe='~')}"


def _moment(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()
