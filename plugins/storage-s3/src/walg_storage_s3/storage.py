"""S3 through obstore (spec/storages.md 3)."""

import _thread
import os

from walg_core.errors import ConfigError
from walg_core.storage.object_store import bucket_and_path

from walg_storage_s3.bucket import S3Storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from walg_core.settings.config import Config

    from walg_storage_s3.credentials import Expiring, Provider
    from walg_storage_s3.rest import Rest
    from walg_storage_s3.signing import Keys

MIN_PART = 5 << 20


def create(config: "Config", prefix: str) -> S3Storage:
    """The storage of `WALG_S3_PREFIX`. Raises ConfigError; touches no network."""
    bucket, path = bucket_and_path(prefix, "WALG_S3_PREFIX")
    if config.get("S3_ENDPOINT_SOURCE"):
        raise ConfigError(
            "S3_ENDPOINT_SOURCE is not supported: requests go to one address", hint="set AWS_ENDPOINT to that address"
        )
    part_size: int = config.get("S3_MAX_PART_SIZE")
    if part_size < MIN_PART:
        raise ConfigError(f"S3_MAX_PART_SIZE is {part_size}: S3 takes parts of at least {MIN_PART} bytes")
    connection = Connection(config, bucket)
    storage_class: str = config.get("S3_STORAGE_CLASS")
    # The default class needs no header, which some other servers do not know.
    classed = {} if storage_class == "STANDARD" else {"x-amz-storage-class": storage_class}
    encryption, customer = _encryption_headers(config)
    return S3Storage(
        connection.store,
        path,
        rest=connection.rest,
        versioning=_versioning(config),
        lock=_lock(config),
        headers={**classed, **encryption},
        customer=customer,
        description=f"s3://{bucket}/{path}".rstrip("/"),
        container=f"the bucket '{bucket}'",
        settings="WALG_S3_PREFIX, AWS_ENDPOINT, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        part_size=part_size,
        concurrency=config.get("UPLOAD_CONCURRENCY") or config.get("WALG_UPLOAD_CONCURRENCY"),
        attributes={} if storage_class == "STANDARD" else {"Storage-Class": storage_class},
    )


def _versioning(config: "Config") -> "bool | None":
    """True, False, or None to ask the bucket (spec/storages.md 3.1 S3_ENABLE_VERSIONING)."""
    said = config.get("S3_ENABLE_VERSIONING")
    return None if not said else said == "enabled"


def _lock(config: "Config") -> "tuple[int, str] | None":
    period: int = config.get("S3_RETENTION_PERIOD")
    if period < 0:
        return None
    mode: str = config.get("S3_RETENTION_MODE")
    if mode not in ("GOVERNANCE", "COMPLIANCE"):
        raise ConfigError(f"S3_RETENTION_MODE is {mode!r}: expected GOVERNANCE or COMPLIANCE")
    return period, mode


class Connection:
    """How the bucket is reached: address, keys, certificates, headers. Nothing is asked before the first use."""

    def __init__(self, config: "Config", bucket: str) -> None:
        self._bucket = bucket
        self._static = _static_keys(config) or _profile(config)
        self._role = "" if _irsa() else config.get("AWS_ROLE_ARN") or ""
        self._session_name = config.get("AWS_ROLE_SESSION_NAME") or "wal-g"
        self._sts = config.get("AWS_STS_ENDPOINT") or ""
        self._yandex = config.get("S3_USE_YC_SESSION_TOKEN")
        self._endpoint = _endpoint(config)
        self._amazon = not self._endpoint or self._endpoint.rstrip("/").endswith(".amazonaws.com")
        self._region = config.get("AWS_REGION") or ""
        self._fallback_region = config.get("AWS_DEFAULT_REGION") or "us-east-1"
        self._dual_stack = config.get("AWS_DUAL_STACK")
        self._path_style = config.get("AWS_S3_FORCE_PATH_STYLE") or not _is_dns_label(bucket) or "." in bucket
        self._retries = max(0, config.get("S3_MAX_RETRIES"))
        self._encryption = _encryption(config)
        self._client = _client(config, self._endpoint)
        self._certificates = config.get("S3_CA_CERT_FILE") or config.get("AWS_CA_BUNDLE")
        self._provider: Provider | None = None
        self._making = _thread.allocate_lock()

    @property
    def region(self) -> str:
        """The region that was set; else Amazon is asked for the bucket's (spec/storages.md 3.3)."""
        if not self._region:
            if self._amazon and self._fallback_region == "us-east-1":
                from walg_storage_s3.rest import bucket_region

                self._region = bucket_region(self._bucket)
            self._region = self._region or self._fallback_region
        return self._region

    def base(self) -> str:
        """The bucket's URL, without a slash at the end."""
        stack = "s3.dualstack" if self._dual_stack else "s3"
        endpoint = self._endpoint.rstrip("/") or f"https://{stack}.{self.region}.amazonaws.com"
        if self._path_style:
            return f"{endpoint}/{self._bucket}"
        scheme, _, host = endpoint.partition("://")
        return f"{scheme}://{self._bucket}.{host}"

    def store(self) -> "Any":
        """The obstore object."""
        from obstore.store import S3Store

        options: dict[str, Any] = {"bucket": self._bucket, "region": self.region, **self._encryption}
        options["virtual_hosted_style_request"] = not self._path_style
        if self._endpoint or self._dual_stack:
            base = self.base()
            options["endpoint"] = base[: -len(self._bucket) - 1] if self._path_style else base
        client = self._client
        if self._yandex:
            headers = {**client.get("default_headers", {}), "X-YaCloud-SubjectToken": self.provider.held().keys.token}
            client = {**client, "default_headers": headers}
        if self._static and not self._role and not self._yandex:
            options |= self._static
        else:
            # obstore would turn what goes wrong here into mere text.
            self.provider.held()
            options["credential_provider"] = self.provider
        options |= {"client_options": client, "retry_config": {"max_retries": self._retries}}
        return S3Store(**options)

    def rest(self) -> "Rest":
        """The client of S3's own protocol."""
        from walg_storage_s3.rest import Rest

        return Rest(
            self.base(),
            self.region,
            self._keys,
            headers=self._client.get("default_headers"),
            certificates=self._certificates,
        )

    @property
    def provider(self) -> "Provider":
        """Keys that expire and are renewed."""
        with self._making:
            if self._provider is None:
                from walg_storage_s3 import credentials

                self._provider = credentials.Provider(self._fetch)
            return self._provider

    def _fetch(self) -> "Expiring":
        from walg_storage_s3 import credentials

        if self._yandex:
            return credentials.instance()
        if self._role:
            return credentials.assumed_role(self._role, self._session_name, self._base_keys, self.region, self._sts)
        return credentials.chain(self.region, self._sts)

    def _base_keys(self) -> "Keys":
        """What the role is assumed with."""
        from walg_storage_s3 import credentials

        return self._fixed() or credentials.chain(self.region, self._sts).keys

    def _keys(self) -> "Keys":
        fixed = None if self._role or self._yandex else self._fixed()
        return fixed or self.provider.held().keys

    def _fixed(self) -> "Keys | None":
        from walg_storage_s3.signing import Keys

        held = self._static
        if not held:
            return None
        return Keys(held["access_key_id"], held["secret_access_key"], held.get("session_token", ""))


def _irsa() -> bool:
    """The environment's own role for its web identity stands in for AWS_ROLE_ARN."""
    return bool(os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") and os.environ.get("AWS_ROLE_ARN"))


def _static_keys(config: "Config") -> "dict[str, str]":
    key = (config.get("AWS_ACCESS_KEY_ID") or config.get("AWS_ACCESS_KEY") or "").strip()
    secret = (config.get("AWS_SECRET_ACCESS_KEY") or config.get("AWS_SECRET_KEY") or "").strip()
    if not key or not secret:
        return {}
    token = config.get("AWS_SESSION_TOKEN")
    return {"access_key_id": key, "secret_access_key": secret, **({"session_token": token} if token else {})}


def _endpoint(config: "Config") -> str:
    endpoint: str = config.get("AWS_ENDPOINT") or ""
    return endpoint if not endpoint or "://" in endpoint else f"https://{endpoint}"


def _is_dns_label(bucket: str) -> bool:
    good = all(character.isdigit() or character in "abcdefghijklmnopqrstuvwxyz.-" for character in bucket)
    return good and 3 <= len(bucket) <= 63 and ".." not in bucket and bucket[0].isalnum() and bucket[-1].isalnum()


def _profile(config: "Config") -> "dict[str, str]":
    """Keys of the shared credentials file, empty when there are none: then the environment's roles are tried."""
    path = config.get("AWS_SHARED_CREDENTIALS_FILE") or os.path.expanduser("~/.aws/credentials")
    if not os.path.isfile(path):
        return {}
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
    except (OSError, configparser.Error) as error:
        raise ConfigError(f"the shared credentials file {path} cannot be read: {type(error).__name__}") from error
    name = config.get("AWS_PROFILE") or "default"
    if not parser.has_section(name):
        if config.get("AWS_PROFILE"):
            raise ConfigError(f"AWS_PROFILE is {name!r}, which {path} does not have")
        return {}
    section = parser[name]
    options = ("access_key_id", "secret_access_key", "session_token")
    return {option: section[f"aws_{option}"] for option in options if f"aws_{option}" in section}


def _encryption(config: "Config") -> "dict[str, Any]":
    method, customer, key = (config.get(name) for name in ("S3_SSE", "S3_SSE_C", "S3_SSE_KMS_ID"))
    if bool(key) != (method == "aws:kms"):
        raise ConfigError(
            "S3_SSE_KMS_ID must be set if and only if S3_SSE is aws:kms",
            hint="set both for a KMS key, S3_SSE=AES256 alone for the bucket's own",
        )
    if customer:
        import base64

        if not method:
            raise ConfigError("S3_SSE_C is set without S3_SSE", hint="set S3_SSE=AES256 beside it")
        return {
            "server_side_encryption": "sse-c",
            "sse_customer_key_base64": base64.b64encode(customer.encode()).decode(),
        }
    if not method:
        return {}
    if method not in ("AES256", "aws:kms"):
        raise ConfigError(f"S3_SSE is {method!r}: expected AES256 or aws:kms")
    return {"server_side_encryption": method, **({"sse_kms_key_id": key} if key else {})}


def _encryption_headers(config: "Config") -> "tuple[dict[str, str], dict[str, str]]":
    """The same as headers: those that begin an object, and those of SSE-C, which go with every request for it."""
    given = _encryption(config)
    if not given:
        return {}, {}
    prefix = "x-amz-server-side-encryption"
    customer = given.get("sse_customer_key_base64")
    if customer:
        import base64
        import hashlib

        raw = base64.b64decode(customer)
        digest = base64.b64encode(hashlib.md5(raw, usedforsecurity=False).digest()).decode()
        start = f"{prefix}-customer"
        return {}, {f"{start}-algorithm": "AES256", f"{start}-key": customer, f"{start}-key-MD5": digest}
    key = given.get("sse_kms_key_id")
    return {prefix: given["server_side_encryption"], **({f"{prefix}-aws-kms-key-id": key} if key else {})}, {}


def _client(config: "Config", endpoint: str) -> "dict[str, Any]":
    client: dict[str, Any] = {"connect_timeout": "30s", "timeout": "30m"}
    if endpoint.startswith("http://"):
        client["allow_http"] = True
    certificates = config.get("S3_CA_CERT_FILE") or config.get("AWS_CA_BUNDLE")
    if certificates:
        try:
            with open(certificates, "rb") as file:
                client["root_certificate"] = file.read()
        except OSError as error:
            raise ConfigError(f"S3_CA_CERT_FILE: cannot read {certificates}: {error.strerror}") from error
        if b"-----BEGIN" not in client["root_certificate"]:
            raise ConfigError(f"S3_CA_CERT_FILE: {certificates} has no certificates in PEM form")
    headers = _headers(config.get("S3_REQUEST_ADDITIONAL_HEADERS"))
    if headers:
        client["default_headers"] = headers
    return client


def _headers(text: str | None) -> "dict[str, str]":
    if not text:
        return {}
    import yaml

    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError("S3_REQUEST_ADDITIONAL_HEADERS is neither YAML nor JSON") from error
    rows = given if isinstance(given, list) else [given]
    headers: dict[str, str] = {}
    for row in rows:
        if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
            raise ConfigError(
                "decode additional headers for S3 requests: headers expected to be a list in YAML of names and texts",
                hint="S3_REQUEST_ADDITIONAL_HEADERS, for example: [{X-Owner: backups}]",
            )
        headers |= row
    return headers
