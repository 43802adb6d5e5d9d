"""What the Azure storage declares (spec/storages.md 4.4)."""

from walg_core.declarations import StorageType
from walg_core.hookspecs import hookimpl
from walg_core.settings.declare import prefix_setting, storage_setting

SETTINGS = (
    prefix_setting("AZ", "archive on Azure Blob Storage, as azure://container/path"),
    storage_setting("AZURE_STORAGE_ACCOUNT", "storage account"),
    storage_setting("AZURE_STORAGE_ACCESS_KEY", "the account's key", secret=True),
    storage_setting("AZURE_STORAGE_SAS_TOKEN", "shared access signature", secret=True),
    storage_setting("AZURE_CLIENT_ID", "application (client) id"),
    storage_setting("AZURE_TENANT_ID", "directory (tenant) id"),
    storage_setting("AZURE_CLIENT_SECRET", "the application's secret", secret=True),
    storage_setting("AZURE_FEDERATED_TOKEN_FILE", "token of a workload identity", kind="path"),
    storage_setting("AZURE_ENDPOINT_SUFFIX", "suffix of the account's host"),
    storage_setting("AZURE_ENVIRONMENT_NAME", "cloud that the suffix is taken from", default="AzurePublicCloud"),
    storage_setting("AZURE_BUFFER_SIZE", "size of a block", kind="int", unit="bytes", default="8388608"),
    storage_setting("AZURE_MAX_BUFFERS", "blocks of one object sent at once", kind="int", default="4"),
    storage_setting("AZURE_TRY_TIMEOUT", "time for one try", kind="int", unit="minutes", default="5"),
    storage_setting("AZURE_BLOB_STORE_API_VERSION", "accepted; the driver's version is sent"),
    storage_setting("AZURE_ENDPOINT", "URL of another server than Azure's, with the account: http://HOST:PORT/ACCOUNT"),
)


@hookimpl
def walg_register_storages() -> list[StorageType]:
    return [
        StorageType(
            "azure",
            prefix="WALG_AZ_PREFIX",
            factory="walg_storage_azure.storage:create",
            schemes=("azure", "az"),
            settings=SETTINGS,
            order=5,
        )
    ]
