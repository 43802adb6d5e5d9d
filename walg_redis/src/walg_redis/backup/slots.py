"""The hash slots of a cluster's shards, from nodes.conf (spec/redis.md 4)."""

from __future__ import annotations

import re
import socket

from walg_core.errors import ConfigError, EngineError
from walg_core.settings.config import Config

Ranges = list[list[str]]
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def read(config: Config) -> dict[str, Ranges | None]:
    """Shard id → its ranges of slots as texts, None for a master without any; ids sorted. Raises WalgError."""
    ids: dict[str, str] = {str(host): str(number) for host, number in config.get("WALG_REDIS_FQDN_TO_ID_MAP").items()}
    path = config.get("WALG_REDIS_CLUSTER_CONF_PATH")
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise ConfigError(f"WALG_REDIS_CLUSTER_CONF_PATH: {path} cannot be read: {error.strerror}") from error
    found: dict[str, Ranges | None] = {}
    for line in lines:
        words = line.split()
        if len(words) < 8 or "master" not in words[2].split(","):
            continue
        names = _hosts(words[1], words[2].split(","))
        if names is None:
            continue
        known = [ids[name] for name in names if name in ids]
        if not known:
            raise EngineError(
                f"failed to find ID from {' '.join(names)}", hint="add the host to WALG_REDIS_FQDN_TO_ID_MAP"
            )
        for each in known:
            found[each] = _ranges(words[8:], line) or None
    missing = sorted(set(ids.values()) - set(found))
    if missing:
        raise EngineError(f"failed to find all IDs from WALG_REDIS_FQDN_TO_ID_MAP in {path}: no {', '.join(missing)}")
    return dict(sorted(found.items()))


def _ranges(words: list[str], line: str) -> Ranges:
    out = []
    for word in words:
        if "[" in word:
            raise EngineError(f"there are slots migrating: {' '.join(words)}", hint="back up when the move is over")
        match = _RANGE.fullmatch(word)
        if not match:
            raise EngineError(f"a line of nodes.conf has slots that are no numbers: {line}")
        out.append([match.group(1), match.group(2) or match.group(1)])
    return out


def _hosts(address: str, flags: list[str]) -> list[str] | None:
    """The names of a node; None for a failed one that tells no name."""
    endpoint, _, names = address.partition(",")
    hostname = names.split(",")[0]
    if hostname:
        return [hostname.rstrip(".")]
    if "fail" in flags:
        return None
    ip = endpoint.partition("@")[0].rpartition(":")[0].strip("[]")
    if not ip:
        return [socket.gethostname().rstrip(".")]
    try:
        name, aliases, _ = socket.gethostbyaddr(ip)
    except OSError as error:
        raise EngineError(f"the cluster node {ip} has no name: {error}", hint="give it a name in DNS") from error
    return [each.rstrip(".") for each in (name, *aliases)]
