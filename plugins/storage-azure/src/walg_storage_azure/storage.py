"""Azure Blob Storage through obstore (spec/storages.md 4.4)."""

from walg_core.errors import ConfigError
from walg_core.storage.object_store import ObjectStoreStorage, bucket_and_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from walg_core.settings.config import Config

MIN_BLOCK = 1 << 20
SUFFIXES = {
    "AzurePublicCloud": "core.windows.net",
    "AzureUSGovernmentCloud": "core.usgovcloudapi.net",
    "AzureChinaCloud": "core.chinacloudapi.cn",
    "AzureGermanCloud": "core.cloudapi.de",
}


def create(config: "Config", prefix: str) -> ObjectStoreStorage:
    """The storage of `WALG_AZ_PREFIX`. Raises ConfigError; touches no network."""
    container, path = bucket_and_path(prefix, "WALG_AZ_PREFIX")
    account = config.get("AZURE_STORAGE_ACCOUNT")
    if not account:
        raise ConfigError('"AZURE_STORAGE_ACCOUNT" is not specified', hint="set it to the storage account's name")
    options = {"container_name": container, "account_name": account, **_credentials(config)}
    client: dict[str, Any] = {"connect_timeout": "30s", "timeout": f"{config.get('AZURE_TRY_TIMEOUT')}m"}
    options["endpoint"] = endpoint_of(config, account)
    client["allow_http"] = options["endpoint"].startswith("http://")

    def connect() -> "Any":
        from obstore.store import AzureStore

        arguments: Any = {"client_options": client, "retry_config": {"max_retries": 3}, **options}
        return AzureStore(**arguments)

    return ObjectStoreStorage(
        connect,
        path,
        description=f"azure://{container}/{path}".rstrip("/"),
        container=f"the container '{container}'",
        settings="WALG_AZ_PREFIX, AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_ACCESS_KEY or AZURE_STORAGE_SAS_TOKEN",
        part_size=max(MIN_BLOCK, config.get("AZURE_BUFFER_SIZE")),
        concurrency=max(1, config.get("AZURE_MAX_BUFFERS")),
    )


def endpoint_of(config: "Config", account: str) -> str:
    """URL of the account's blobs. Raises ConfigError."""
    endpoint: str | None = config.get("AZURE_ENDPOINT")
    if endpoint:
        if not endpoint.startswith(("http://", "https://")):
            raise ConfigError(f"AZURE_ENDPOINT is {endpoint!r}: expected a URL", hint="as https://HOST/ACCOUNT")
        return endpoint
    named = SUFFIXES.get(config.get("AZURE_ENVIRONMENT_NAME"), SUFFIXES["AzurePublicCloud"])
    return f"https://{account}.blob.{config.get('AZURE_ENDPOINT_SUFFIX') or named}"


def _credentials(config: "Config") -> "dict[str, Any]":
    """Key, then shared access signature, then a service principal or workload identity, then a managed identity."""
    key, token = config.get("AZURE_STORAGE_ACCESS_KEY"), config.get("AZURE_STORAGE_SAS_TOKEN")
    if key:
        import binascii

        try:
            binascii.a2b_base64(key.strip(), strict_mode=True)
        except binascii.Error:
            raise ConfigError(
                "AZURE_STORAGE_ACCESS_KEY is not base64", hint="copy one of the account's two access keys whole"
            ) from None
        return {"account_key": key.strip()}
    if token:
        pairs = token.strip().removeprefix("?")
        if "sig=" not in pairs:
            raise ConfigError(
                "AZURE_STORAGE_SAS_TOKEN is not a shared access signature: it has no sig=",
                hint="copy the whole query string, as sv=…&sr=c&sp=racwdl&sig=…",
            )
        return {"sas_key": pairs}
    names = {
        "AZURE_CLIENT_ID": "client_id",
        "AZURE_TENANT_ID": "tenant_id",
        "AZURE_CLIENT_SECRET": "client_secret",
        "AZURE_FEDERATED_TOKEN_FILE": "federated_token_file",
    }
    return {option: value for name, option in names.items() if (value := config.get(name))}
