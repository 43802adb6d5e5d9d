"""S3 through obstore (spec/storages.md 3)."""

import os

from walg_core.errors import ConfigError
from walg_core.storage.object_store import ObjectStoreStorage, bucket_and_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from walg_core.settings.config import Config

MIN_PART = 5 << 20


def create(config: "Config", prefix: str) -> ObjectStoreStorage:
    """The storage of `WALG_S3_PREFIX`. Raises ConfigError; touches no network."""
    bucket, path = bucket_and_path(prefix, "WALG_S3_PREFIX")
    _refuse_what_is_missing(config)
    part_size: int = config.get("S3_MAX_PART_SIZE")
    if part_size < MIN_PART:
        raise ConfigError(f"S3_MAX_PART_SIZE is {part_size}: S3 takes parts of at least {MIN_PART} bytes")
    options = _options(config, bucket)
    client = _client(config, options)
    concurrency = config.get("UPLOAD_CONCURRENCY") or config.get("WALG_UPLOAD_CONCURRENCY")
    storage_class: str = config.get("S3_STORAGE_CLASS")
    # The default class needs no header, which some other servers do not know.
    attributes = {} if storage_class == "STANDARD" else {"Storage-Class": storage_class}
    retries: int = config.get("S3_MAX_RETRIES")

    def connect() -> "Any":
        from obstore.store import S3Store

        arguments: Any = {"client_options": client, "retry_config": {"max_retries": max(0, retries)}, **options}
        return S3Store(**arguments)

    return ObjectStoreStorage(
        connect,
        path,
        description=f"s3://{bucket}/{path}".rstrip("/"),
        container=f"the bucket '{bucket}'",
        settings="WALG_S3_PREFIX, AWS_ENDPOINT, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        part_size=part_size,
        concurrency=concurrency,
        attributes=attributes,
    )


def _refuse_what_is_missing(config: "Config") -> None:
    """Settings whose silent neglect would cost data or safety."""
    if config.get("S3_RETENTION_PERIOD") >= 0:
        raise ConfigError(
            "S3_RETENTION_PERIOD asks for object lock, which this storage does not set yet",
            hint="give the bucket a default retention instead, and unset S3_RETENTION_PERIOD",
        )
    for name in ("S3_ENDPOINT_SOURCE", "S3_USE_YC_SESSION_TOKEN"):
        if config.get(name):
            raise ConfigError(f"{name} is not supported by this storage yet", hint="set AWS_ENDPOINT and static keys")


def _options(config: "Config", bucket: str) -> "dict[str, Any]":
    options: dict[str, Any] = {"bucket": bucket}
    key = (config.get("AWS_ACCESS_KEY_ID") or config.get("AWS_ACCESS_KEY") or "").strip()
    secret = (config.get("AWS_SECRET_ACCESS_KEY") or config.get("AWS_SECRET_KEY") or "").strip()
    if key and secret:
        options |= {"access_key_id": key, "secret_access_key": secret}
        if token := config.get("AWS_SESSION_TOKEN"):
            options["session_token"] = token
    elif profile := _profile(config):
        options |= profile
    endpoint = config.get("AWS_ENDPOINT")
    if endpoint:
        options["endpoint"] = endpoint if "://" in endpoint else f"https://{endpoint}"
    options["region"] = config.get("AWS_REGION") or config.get("AWS_DEFAULT_REGION") or "us-east-1"
    path_style = config.get("AWS_S3_FORCE_PATH_STYLE") or not _is_dns_label(bucket) or "." in bucket
    options["virtual_hosted_style_request"] = not path_style
    if endpoint and not path_style:
        scheme, _, host = options["endpoint"].partition("://")
        options["endpoint"] = f"{scheme}://{bucket}.{host}"
    options |= _encryption(config)
    return options


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


def _client(config: "Config", options: "dict[str, Any]") -> "dict[str, Any]":
    client: dict[str, Any] = {"connect_timeout": "30s", "timeout": "30m"}
    if str(options.get("endpoint", "")).startswith("http://"):
        client["allow_http"] = True
    certificates = config.get("S3_CA_CERT_FILE") or config.get("AWS_CA_BUNDLE")
    if certificates:
        try:
            with open(certificates, "rb") as file:
                client["root_certificate"] = file.read()
        except OSError as error:
            raise ConfigError(f"S3_CA_CERT_FILE: cannot read {certificates}: {error.strerror}") from error
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
