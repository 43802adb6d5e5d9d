"""Which storages are alive: exponentially averaged results, remembered in files shared with Go WAL-G.

Facts: spec/storages.md 5.4 and 5.5. Times are nanoseconds since the epoch.
"""

import json
import math
import os
import threading
import time

from walg_core.errors import ConfigError
from walg_core.io.atomic import write_file
from walg_core.io.locks import FileLock
from walg_core.observe import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from walg_core.settings.config import Config

_PREFIX = "WALG_FAILOVER_STORAGES_CACHE_EMA_"


class Averaging:
    """The parameters of the average (all between 0 and 1)."""

    __slots__ = ("alive_limit", "alive_max", "alive_min", "dead_limit", "dead_max", "dead_min")

    def __init__(
        self, alive_limit: float, dead_limit: float, alive: "tuple[float, float]", dead: "tuple[float, float]"
    ):
        self.alive_limit = alive_limit
        self.dead_limit = dead_limit
        self.alive_min, self.alive_max = alive
        self.dead_min, self.dead_max = dead
        values = (alive_limit, dead_limit, *alive, *dead)
        if not all(0 < value < 1 for value in values):
            raise ConfigError(f"invalid EMA params: every {_PREFIX}* must be between 0 and 1")
        if alive_limit < dead_limit:
            raise ConfigError(f"invalid EMA params: {_PREFIX}ALIVE_LIMIT must not be below {_PREFIX}DEAD_LIMIT")
        if alive[0] > alive[1] or dead[0] > dead[1]:
            raise ConfigError(f"invalid EMA params: a {_PREFIX}ALPHA_*_MIN is above its MAX")

    @classmethod
    def of(cls, config: "Config") -> "Averaging":
        """From the settings. Raises ConfigError."""

        def get(name: str) -> float:
            return float(config.get(_PREFIX + name))

        return cls(
            get("ALIVE_LIMIT"),
            get("DEAD_LIMIT"),
            (get("ALPHA_ALIVE_MIN"), get("ALPHA_ALIVE_MAX")),
            (get("ALPHA_DEAD_MIN"), get("ALPHA_DEAD_MAX")),
        )


class Status:
    """One storage's aliveness: `potential` if everything had succeeded, `actual`, and whether it was alive before."""

    __slots__ = ("actual", "potential", "previous", "updated")

    def __init__(self, potential: float = 0.0, actual: float = 0.0, previous: bool = False, updated: int = 0) -> None:
        self.potential = potential
        self.actual = actual
        self.previous = previous
        self.updated = updated

    def factor(self, averaging: Averaging) -> float:
        if self.potential == 0 and self.actual == 0:
            return averaging.dead_limit
        return self.actual / self.potential if self.potential else math.inf

    def alive(self, averaging: Averaging) -> bool:
        """Dying takes sinking below the dead limit, reviving takes climbing to the alive limit."""
        limit = averaging.dead_limit if self.previous else averaging.alive_limit
        return self.factor(averaging) >= limit

    def checked(self, alive: bool, now: int) -> "Status":
        """After an explicit check."""
        return Status(self.potential, self.potential if alive else 0.0, alive, now)

    def averaged(self, success: bool, weight: float, averaging: Averaging, now: int) -> "Status":
        """After an operation of this weight."""
        factor = self.factor(averaging)
        alive = self.alive(averaging)
        if alive:
            share = (factor - averaging.dead_limit) / (1 - averaging.dead_limit)
            alpha = averaging.alive_max + (averaging.alive_min - averaging.alive_max) * share
        else:
            share = factor / averaging.alive_limit
            alpha = averaging.dead_max + (averaging.dead_min - averaging.dead_max) * share
        potential = weight * alpha + self.potential * (1 - alpha)
        actual = (weight if success else 0.0) * alpha + self.actual * (1 - alpha)
        return Status(potential, actual, alive, now)


def scaled(weight: float, amount: float) -> float:
    """The weight of an operation over `amount` MiB or objects."""
    return weight if amount <= 1 else weight * (1 + math.log10(amount))


class StatusCache:
    """The statuses of all storages for one kind of access (`ro` or `rw`): in memory, merged with the shared file.

    Entries of storages that this run does not know are kept. A file that cannot be read counts as empty, with one
    warning. Safe for threads.
    """

    def __init__(
        self, access: str, lifetime: float, averaging: Averaging, now: "Callable[[], int]" = time.time_ns
    ) -> None:
        home = os.environ.get("HOME") or "/tmp"  # noqa: S108 - the original's place when there is no home
        self.path = os.path.join(home, f".walg_storage_{access}_status_cache")
        self.averaging = averaging
        self._lifetime = int(lifetime * 1e9)
        self._now = now
        self._statuses: dict[str, Status] = {}
        self._changed: set[str] = set()
        self._lock = threading.Lock()
        self._warned = False
        self._read = False

    def fresh(self, key: str) -> bool:
        """Whether something believable is known. Reads the file when memory has nothing fresh."""
        with self._lock:
            if not self._is_fresh(key) and not self._read:
                self._read = True
                self._merge(self._load())
            return self._is_fresh(key)

    def _is_fresh(self, key: str) -> bool:
        status = self._statuses.get(key)
        return status is not None and self._now() - status.updated <= self._lifetime

    def alive(self, key: str) -> bool:
        """By what is known, however old."""
        with self._lock:
            status = self._statuses.get(key)
            return status is not None and status.alive(self.averaging)

    def check(self, key: str, alive: bool) -> None:
        """Remember the result of an explicit check."""
        with self._lock:
            self._statuses[key] = self._statuses.get(key, Status()).checked(alive, self._now())
            self._changed.add(key)

    def report(self, key: str, success: bool, weight: float) -> None:
        """Remember the result of an operation."""
        with self._lock:
            status = self._statuses.get(key, Status())
            self._statuses[key] = status.averaged(success, weight, self.averaging, self._now())
            self._changed.add(key)

    def save(self) -> None:
        """Merge what was learnt into the file (0600). A failure is a warning: the cache only saves checks."""
        with self._lock:
            if not self._changed:
                return
            try:
                with FileLock(self.path, mode=0o600):
                    self._merge(self._load())
                    text = "{" + ",".join(_encode(key, self._statuses[key]) for key in sorted(self._statuses)) + "}"
                    write_file(self.path, text.encode(), mode=0o600)
            except OSError as error:
                log.warning(f"the status cache {self.path} cannot be written: {error.strerror}")
            self._changed.clear()

    def _merge(self, found: "dict[str, Status]") -> None:
        for key, status in found.items():
            known = self._statuses.get(key)
            if known is None or status.updated > known.updated:
                self._statuses[key] = status

    def _load(self) -> "dict[str, Status]":
        try:
            with open(self.path, "rb") as file:
                raw = file.read(1 << 24)
            return {key: _decode(value) for key, value in json.loads(raw).items() if "#" in key} if raw else {}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            if not self._warned:
                self._warned = True
                log.warning(f"the status cache {self.path} cannot be read and counts as empty: {error}")
            return {}


def _decode(value: "dict[str, Any]") -> Status:
    return Status(
        float(value["potential_aliveness"]),
        float(value["actual_aliveness"]),
        bool(value["previous_aliveness"]),
        parse_time(value["updated"]),
    )


def _encode(key: str, status: Status) -> str:
    potential, actual = _number(status.potential), _number(status.actual)
    previous = "true" if status.previous else "false"
    return (
        f'{json.dumps(key)}:{{"potential_aliveness":{potential},"actual_aliveness":{actual},'
        f'"previous_aliveness":{previous},"updated":"{format_time(status.updated)}"}}'
    )


def _number(value: float) -> str:
    """As Go writes a float64 between 1e-6 and 1e21: no exponent, no fraction when there is none."""
    text = repr(value)
    if "e" in text:
        from decimal import Decimal

        text = format(Decimal(text), "f")
    return text.removesuffix(".0")


def parse_time(text: str) -> int:
    """RFC 3339 to nanoseconds. Raises ValueError."""
    from datetime import datetime

    head, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))] if dot else ""
    zone = rest[len(digits) :] if dot else ""
    moment = datetime.fromisoformat(head + zone)
    return int(moment.timestamp()) * 1_000_000_000 + int((digits + "0" * 9)[:9])


def format_time(moment: int) -> str:
    """RFC 3339 in UTC, up to 9 digits, without trailing zeros."""
    seconds, fraction = divmod(moment, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return text + (f".{fraction:09d}".rstrip("0") if fraction else "") + "Z"
