"""What OSS's errors mean; their codes are those of its API reference, "Error codes"."""

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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KEYS = "check OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"
_HINTS = {
    "InvalidAccessKeyId": "check OSS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "check OSS_ACCESS_KEY_SECRET and OSS_REGION",
    "InvalidSecurityToken": "check OSS_SESSION_TOKEN",
    "SecurityTokenExpired": "the token of OSS_SESSION_TOKEN has expired: get new keys",
    "SecurityTokenNotSupported": "check OSS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "AccessDenied": "check the rights of the key on the bucket, OSS_REGION and OSS_ENDPOINT",
}
_THROTTLED = ("TooManyRequests", "ServiceBusy", "QpsLimitExceeded", "DownloadTrafficRateLimitExceeded",
              "UploadTrafficRateLimitExceeded", "RequestThrottled")  # fmt: skip

NOT_TLS = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")


def translate(error: Exception, doing: str, key: str, where: str) -> StorageError:
    """The class of our tree that says what to do about it; the message names the settings, never a secret.

    A 404 without a code is ObjectNotFound too: whether it is the bucket that is missing, the caller finds out.
    """
    if isinstance(error, StorageError):
        return error
    from alibabacloud_oss_v2 import exceptions

    inner: Any = error
    while isinstance(inner, (exceptions.OperationError, exceptions.CredentialsFetchError)):
        inner = inner.unwrap() if isinstance(inner, exceptions.OperationError) else inner.kwargs.get("error")
    if isinstance(inner, StorageError):
        return inner
    if isinstance(inner, exceptions.ServiceError):
        return _of_service(inner, f"cannot {doing}", key, where)
    if isinstance(inner, exceptions.BucketNameInvalidError):
        return PermanentError(f"{where}: this is no name for a bucket", key=key, hint="check WALG_OSS_PREFIX")
    if isinstance(inner, exceptions.InconsistentError):
        return TransientError(f"cannot {doing}: the server stored other bytes than were sent", key=key)
    if isinstance(inner, (exceptions.ParamInvalidError, exceptions.ParamRequiredError)):
        return PermanentError(f"cannot {doing}: {inner}", key=key, hint="check OSS_ENDPOINT and OSS_REGION")
    return _of_network(inner, doing, key, where)


def _of_service(error: "Any", doing: str, key: str, where: str) -> StorageError:
    code, status = error.code or "", int(error.status_code or 0)
    said = " ".join(str(error.message or "").split())[:200]
    text = f"{doing} in {where}: {code or status}" + (f" ({said})" if said else "")
    if code == "NoSuchBucket":
        return no_bucket(where, key)
    if code == "NoSuchKey" or (status == 404 and code in ("", "BadErrorResponse")):
        return ObjectNotFound(key, where=where)
    if code == "FileAlreadyExists":
        return ObjectExists(key)
    if code in _THROTTLED or status == 429:
        return Throttled(text, key=key)
    if "Quota" in code or "CapacityExceed" in code:
        return NoSpace(text, key=key)
    if code == "InvalidObjectState":
        return PermanentError(
            text, key=key, hint="the object is in an archive class: restore it in OSS before it can be read"
        )
    if status in (401, 403) or code in _HINTS:
        hint = _HINTS.get(code, KEYS)
        return AccessDenied(f"{where} denies access: {code or status} ({said})", key=key, hint=hint)
    if status >= 500 or status in (408, 409) or code == "InvalidDigest":
        return TransientError(text, key=key)
    return PermanentError(text, key=key, hint="check WALG_OSS_PREFIX, OSS_REGION and OSS_ENDPOINT")


def no_bucket(where: str, key: str) -> PermanentError:
    return PermanentError(
        f"the bucket of {where} does not exist",
        key=key,
        hint="check WALG_OSS_PREFIX (oss://bucket/path) and OSS_REGION",
    )


def _of_network(error: "Any", doing: str, key: str, where: str) -> StorageError:
    from alibabacloud_oss_v2 import exceptions

    text = str(error)
    if any(word in text for word in NOT_TLS):
        return PermanentError(
            f"cannot {doing}: {where} has no certificate that we trust", key=key, hint="check OSS_ENDPOINT"
        )
    if any(word in text for word in ("InvalidURL", "MissingSchema", "LocationParse", "No connection adapters")):
        return PermanentError(f"cannot {doing}: OSS_ENDPOINT is not a URL", key=key, hint="check OSS_ENDPOINT")
    if not isinstance(error, (exceptions.RequestError, exceptions.ResponseError, OSError)):
        return PermanentError(f"cannot {doing} in {where}: {type(error).__name__}: {text[:200]}", key=key)
    return TransientError(
        f"cannot {doing} in {where}: {_reason(error)}",
        key=key,
        hint="is the network or the service down? check OSS_ENDPOINT and OSS_REGION",
    )


def _reason(error: "Any") -> str:
    """What happened, in words, without the libraries' objects."""
    inner = getattr(error, "unwrap", lambda: error)()
    text = str(inner)
    if "Read timed out" in text:
        return "no answer in time"
    if "ConnectTimeout" in text or "timed out" in text:
        return "the service cannot be reached in time"
    for known in ("Connection refused", "Name or service not known", "No route to host", "Network is unreachable"):
        if known in text:
            return f"the service cannot be reached: {known}"
    return f"the connection broke ({type(inner).__name__})"
