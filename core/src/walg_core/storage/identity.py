"""How a storage's configuration is spelled for the cache of failover statuses (spec/storages.md 2 "config hash")."""

import hashlib
import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from walg_core.storage.api import Storage

_ESCAPED: dict[str, str | int | None] = {
    "&": "\\u0026",
    "<": "\\u003c",
    ">": "\\u003e",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def go_json(configuration: "Mapping[str, object]") -> str:
    """Compact JSON in the order given, with the escapes that Go's encoder makes; durations are in nanoseconds."""
    text = json.dumps(configuration, separators=(",", ":"), ensure_ascii=False)
    return text.translate(str.maketrans(_ESCAPED))


def config_hash(storage: "Storage") -> str:
    """Lower-case hexadecimal MD5 of the storage's identity."""
    return hashlib.md5(storage.identity().encode(), usedforsecurity=False).hexdigest()
