"""Where the facts that all engines share stand in this engine's sentinels."""

from walg_core.backups.sentinels import SentinelForm

FORM = SentinelForm(finish="FinishLocalTime", permanent="Permanent", plain_size="DataSize", stored_size="BackupSize")
