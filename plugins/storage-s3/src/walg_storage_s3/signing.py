"""AWS's Signature Version 4, for the requests that obstore has no call for."""

import hashlib
import hmac
import time
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit


class Keys(NamedTuple):
    """An access key, its secret, and the token of temporary ones."""

    key: str
    secret: str
    token: str = ""


def sign(
    method: str, url: str, headers: dict[str, str], body: bytes, keys: Keys, region: str, service: str = "s3"
) -> dict[str, str]:
    """`headers` with those that sign the request, in the form of the service's documentation."""
    parts = urlsplit(url)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    digest = hashlib.sha256(body).hexdigest()
    out = {**headers, "x-amz-date": stamp, "x-amz-content-sha256": digest}
    if keys.token:
        out["x-amz-security-token"] = keys.token
    canonical = {name.lower(): " ".join(value.split()) for name, value in out.items()} | {"host": parts.netloc}
    names = ";".join(sorted(canonical))
    query = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True))
    )
    head = "".join(f"{name}:{canonical[name]}\n" for name in sorted(canonical))
    request = "\n".join((method, parts.path or "/", query, head, names, digest))
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()))
    secret = f"AWS4{keys.secret}".encode()
    for part in scope.split("/"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    signature = hmac.digest(secret, text.encode(), "sha256").hex()
    out["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return out
