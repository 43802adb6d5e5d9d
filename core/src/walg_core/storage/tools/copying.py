"""Copying a whole archive between two configurations (spec/storages.md 6.2), optionally changing the cipher."""

from concurrent.futures import ThreadPoolExecutor

from walg_core.crypto.api import Crypter
from walg_core.observe import log
from walg_core.pipeline.reader import Reader
from walg_core.storage.api import Storage

_PARALLEL = 8
_PLAIN = ".json"


def copy_objects(
    source: Storage, target: Storage, prefix: str, *, decrypt: Crypter | None = None, encrypt: Crypter | None = None
) -> int:
    """Copy every object whose key starts with `prefix` under the same name; returns how many.

    Compression stays as it is. Metadata (`*.json`) is never encrypted, so it is copied as it is.
    """

    def copy(key: str) -> None:
        reader: Reader = source.open(key)
        try:
            if not key.endswith(_PLAIN):
                reader = decrypt.decrypt(reader) if decrypt else reader
                reader = encrypt.encrypt(reader) if encrypt else reader
            target.put(key, reader)
        finally:
            reader.close()
        log.debug(f"copied '{key}'")

    # Sentinels come last: a copy that breaks off shows no backup that is not whole.
    keys = [info.key for info in source.list() if info.key.startswith(prefix)]
    keys.sort(key=lambda key: key.endswith(_PLAIN))
    plain = next((at for at, key in enumerate(keys) if key.endswith(_PLAIN)), len(keys))
    for part in (keys[:plain], keys[plain:]):
        with ThreadPoolExecutor(_PARALLEL) as pool:
            futures = [pool.submit(copy, key) for key in part]
            try:
                for future in futures:
                    future.result()
            finally:
                pool.shutdown(cancel_futures=True)
    log.info(f"Successfully copied {len(keys)} objects")
    return len(keys)
