"""What the Redis engine declares. Read whenever plugins are listed, so it imports nothing heavy."""

from walg_core.declarations import EngineType
from walg_core.hookspecs import hookimpl

from walg_redis.settings import SETTINGS


@hookimpl
def walg_register_engines() -> list[EngineType]:
    return [
        EngineType(
            "redis",
            title="Redis",
            app="walg_redis.cli:app",
            cold={"backup-push": "walg_redis.cold:backup_push"},
            cold_forms={
                "backup-push": (0, ("type", "ts-backup", "ts-backup-id", "add-user-data"), ("permanent", "sharded"))
            },
            settings=SETTINGS,
        )
    ]
