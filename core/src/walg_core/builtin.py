"""What core itself brings, registered through the very same hooks as any plugin."""

from walg_core.declarations import CompressorType, StorageType
from walg_core.hookspecs import hookimpl
from walg_core.settings.core import SETTINGS
from walg_core.settings.declare import Setting
from walg_core.storage.declared import SETTINGS as STORAGE_SETTINGS
from walg_core.storage.declared import STORAGES

_ZSTD = (Setting("WALG_ZSTD_LEVEL", "fastest, default, better or best; only with the method zstd"),)

# In the order in which readers probe extensions (spec/compression-crypto.md 4).
_COMPRESSORS: tuple[tuple[str, str, bool, tuple[Setting, ...]], ...] = (
    ("lz4", "lz4", True, ()),
    ("lzma", "lzma", True, ()),
    ("gzip", "gz", False, ()),
    ("none", "", True, ()),
    ("brotli", "br", True, ()),
    ("lzo", "lzo", False, ()),
    ("zstd", "zst", True, _ZSTD),
)


@hookimpl
def walg_register_settings() -> tuple[Setting, ...]:
    return SETTINGS + STORAGE_SETTINGS


@hookimpl
def walg_register_storages() -> tuple[StorageType, ...]:
    return STORAGES


@hookimpl
def walg_register_compressors() -> list[CompressorType]:
    return [
        CompressorType(
            name,
            extension=extension,
            factory=f"walg_core.compression.{name}:compressor",
            writable=writable,
            settings=settings,
            order=place,
        )
        for place, (name, extension, writable, settings) in enumerate(_COMPRESSORS, 1)
    ]
