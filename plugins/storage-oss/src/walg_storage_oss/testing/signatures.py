"""Signatures of requests as OSS checks them (API reference, "Include signatures in the Authorization header")."""

import base64
import hashlib
import hmac
from email.message import Message
from urllib.parse import parse_qsl, quote, urlsplit

REGION = "cn-test"
_SIGNED_IN_V1 = {"uploads", "uploadId", "partNumber", "delete", "continuation-token", "acl", "versioning"}


class Refusal(Exception):
    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message


class Signed:
    """A request: how it was made, and for whom. `keys`: access key → its secret and session token."""

    def __init__(
        self, command: str, path: str, headers: Message, bucket: str, key: str, keys: dict[str, tuple[str, str]]
    ) -> None:
        self.command = command
        self.path = path
        self.headers = headers
        self.bucket = bucket
        self.key = key
        self.keys = keys

    def check(self) -> None:
        given = self.headers.get("Authorization", "")
        headers = {name.lower(): value.strip() for name, value in self.headers.items()}
        query = parse_qsl(urlsplit(self.path).query, keep_blank_values=True)
        if given.startswith("OSS4-HMAC-SHA256"):
            key, expected, found = self.version_4(given, headers, query)
        elif given.startswith("OSS "):
            key, found = given[4:].split(":")
            expected = self.version_1(key, headers, query)
        else:
            raise Refusal(403, "AccessDenied", "anonymous")
        if not hmac.compare_digest(expected, found):
            raise Refusal(403, "SignatureDoesNotMatch", "The request signature we calculated does not match")
        token = self.keys[key][1]
        if headers.get("x-oss-security-token", "") != token:
            raise Refusal(403, "InvalidSecurityToken", "The security token is wrong")

    def secret(self, key: str) -> str:
        if key not in self.keys:
            expired = key.startswith("STS.")
            raise Refusal(403, "SecurityTokenExpired" if expired else "InvalidAccessKeyId", "The key is not known")
        return self.keys[key][0]

    def version_4(self, given: str, headers: dict[str, str], query: list[tuple[str, str]]) -> tuple[str, str, str]:
        fields = dict(part.strip().split("=", 1) for part in given.split(" ", 1)[1].split(","))
        key, day, region, service, _ = fields["Credential"].split("/")
        more = [name for name in fields.get("AdditionalHeaders", "").split(";") if name]
        parameters = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in query)
        signed = [n for n in sorted(headers) if n in ("content-type", "content-md5", *more) or n.startswith("x-oss-")]
        canonical = "\n".join([
            self.command,
            quote(f"/{self.bucket}/{self.key}" if self.bucket else "/", safe="/-_.~"),
            "&".join(f"{k}={v}" if v else k for k, v in parameters),
            "".join(f"{name}:{headers[name]}\n" for name in signed),
            ";".join(more),
            headers.get("x-oss-content-sha256", "UNSIGNED-PAYLOAD"),
        ])  # fmt: skip
        scope = f"{day}/{region}/{service}/aliyun_v4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = "\n".join(["OSS4-HMAC-SHA256", headers["x-oss-date"], scope, digest])
        signing = f"aliyun_v4{self.secret(key)}".encode()
        if region != REGION:
            raise Refusal(403, "SignatureDoesNotMatch", "Invalid signing region in Authorization header")
        for word in (day, region, service, "aliyun_v4_request"):
            signing = hmac.new(signing, word.encode(), hashlib.sha256).digest()
        return key, hmac.new(signing, text.encode(), hashlib.sha256).hexdigest(), fields["Signature"]

    def version_1(self, key: str, headers: dict[str, str], query: list[tuple[str, str]]) -> str:
        names = [name for name in sorted(headers) if name.startswith("x-oss-")]
        parameters = "&".join(f"{k}={v}" if v else k for k, v in sorted(query) if k in _SIGNED_IN_V1)
        resource = (f"/{self.bucket}/{self.key}" if self.bucket else "/") + (f"?{parameters}" if parameters else "")
        text = "\n".join([
            self.command, headers.get("content-md5", ""), headers.get("content-type", ""),
            headers.get("x-oss-date") or headers.get("date", ""),
            "".join(f"{name}:{headers[name]}\n" for name in names) + resource,
        ])  # fmt: skip
        return base64.b64encode(hmac.new(self.secret(key).encode(), text.encode(), hashlib.sha1).digest()).decode()
