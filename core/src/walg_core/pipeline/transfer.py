"""Single objects with a logical name (a WAL segment, a binlog): stored with the codec's extension, found by probing.

Facts: spec/compression-crypto.md 1 and 4.
"""

from walg_core.errors import AbsenceUnsure, ObjectNotFound
from walg_core.pipeline.meters import CountingReader
from walg_core.pipeline.reader import Reader
from walg_core.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage


class Stored(Record):
    """`key` with its extension; sizes in bytes, before and after compression and encryption."""

    __slots__ = ("key", "plain_size", "stored_size")

    def __init__(self, key: str, plain_size: int, stored_size: int) -> None:
        self.key = key
        self.plain_size = plain_size
        self.stored_size = stored_size


def store(
    context: "Context",
    storage: "Storage",
    name: str,
    source: Reader,
    *,
    compress: bool = True,
    encrypt: bool = True,
    if_absent: bool = False,
) -> Stored:
    """Store `source` as `name` plus the compressor's extension; closes `source`.

    Durable on return; raises ObjectExists with `if_absent`, any StorageError, ConfigError for the codec's settings.
    """
    plain = CountingReader(source)
    stream: Reader = plain
    extension = ""
    try:
        if compress:
            compressor = context.compressor()
            stream = compressor.compress(stream, context.config)
            extension = "." + compressor.extension if compressor.extension else ""
        crypter = context.crypter() if encrypt else None
        if crypter:
            stream = crypter.encrypt(stream)
        stored = storage.put(name + extension, stream, None, if_absent)
    finally:
        stream.close()
    return Stored(name + extension, plain.count, stored)


def candidates(context: "Context", name: str, hint: str = "") -> list[tuple[str, str]]:
    """`(key, extension)` in the order in which readers try them: `hint` first, the bare name last."""
    extensions = [c.extension for c in context.catalog.probing_order() if c.extension]
    if hint in extensions:
        extensions.remove(hint)
        extensions.insert(0, hint)
    return [(f"{name}.{extension}", extension) for extension in extensions] + [(name, "")]


def find(context: "Context", storage: "Storage", name: str, hint: str = "") -> tuple[str, str]:
    """The key under which `name` is stored and its extension ("" when it is not compressed).

    `hint` is the extension to try first (the last one that was found). Raises ObjectNotFound with the original's
    words; a storage that fails raises what it raises, never "not found".
    """
    unsure: AbsenceUnsure | None = None
    for key, extension in candidates(context, name, hint):
        try:
            if storage.exists(key):
                return key, extension
        except AbsenceUnsure as error:
            unsure = error
    raise unsure or _absent(name)


def read(context: "Context", storage: "Storage", key: str, extension: str) -> Reader:
    """The plain bytes of `key`, decrypted as configured and decompressed by `extension`."""
    source = storage.open(key)
    try:
        return context.decode(source, extension)
    except BaseException:
        source.close()
        raise


def open_by_name(context: "Context", storage: "Storage", name: str, hint: str = "") -> tuple[Reader, str]:
    """The plain bytes of the object found for `name`, and its extension; one request where the hint is right."""
    unsure: AbsenceUnsure | None = None
    for key, extension in candidates(context, name, hint):
        try:
            return read(context, storage, key, extension), extension
        except ObjectNotFound:
            continue
        except AbsenceUnsure as error:
            unsure = error
    raise unsure or _absent(name)


def _absent(name: str) -> ObjectNotFound:
    error = ObjectNotFound(name)
    error.args = (f"Archive '{name.rsplit('/', 1)[-1]}' does not exist.",)
    return error
