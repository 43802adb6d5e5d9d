"""Where the server is and what it says: address, login, TLS, INFO (spec/redis.md 3.2)."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, NamedTuple

from walg_core.errors import ConfigError, EngineError, WalgError
from walg_core.observe import log
from walg_core.settings.config import Config

if TYPE_CHECKING:
    import redis

# The client library is imported where it is used: a backup needs it only for the details in its sentinel.


class Tls(NamedTuple):
    """Files in PEM form; None: the system's authorities, no certificate of our own."""

    authority: str | None
    certificate: str | None
    key: str | None

    def context(self) -> ssl.SSLContext:
        """Raises ConfigError when a file cannot be used."""
        try:
            made = ssl.create_default_context(cafile=self.authority)
            if self.certificate:
                made.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"a file of WALG_REDIS_TLS_CA, WALG_REDIS_TLS_CERT or WALG_REDIS_TLS_KEY cannot be used: {error}"
            ) from error
        return made


class Address(NamedTuple):
    """Where and as whom. `socket` wins over host and port; `timeout` in seconds."""

    host: str
    port: int
    socket: str
    username: str
    password: str
    database: int
    tls: Tls | None
    timeout: float

    @property
    def shown(self) -> str:
        return self.socket or f"{self.host}:{self.port}"


class Facts(NamedTuple):
    """What a sentinel records of the server; zero where it could not be asked."""

    used_memory: int = 0
    used_memory_rss: int = 0
    max_db_number: int = 0


def address(config: Config) -> Address:
    """From the settings, a Sentinel asked where there are any. Raises ConfigError, EngineError."""
    database = str(config.get("WALG_REDIS_DB") or "0")
    found = Address(
        host=config.get("WALG_REDIS_HOST"),
        port=config.get("WALG_REDIS_PORT"),
        socket=config.get("WALG_REDIS_SOCKET") or "",
        username=config.get("WALG_REDIS_USERNAME") or "default",
        password=config.get("WALG_REDIS_PASSWORD") or "",
        database=int(database) if database.isdigit() else 0,
        tls=_tls(config),
        timeout=config.get("WALG_REDIS_TIMEOUT"),
    )
    sentinels = config.get("WALG_REDIS_SENTINELS")
    return _by_sentinel(found, sentinels, config.get("WALG_REDIS_SENTINEL_MASTER")) if sentinels else found


def _tls(config: Config) -> Tls | None:
    if not config.get("WALG_REDIS_TLS"):
        return None
    found = Tls(config.get("WALG_REDIS_TLS_CA"), config.get("WALG_REDIS_TLS_CERT"), config.get("WALG_REDIS_TLS_KEY"))
    found.context()
    return found


def _by_sentinel(found: Address, text: str, master: str) -> Address:
    from redis import RedisError

    pairs = []
    for each in text.split(","):
        name, _, number = each.strip().rpartition(":")
        if not name or not number.isdigit():
            raise ConfigError(f"WALG_REDIS_SENTINELS: {each.strip()!r} is not of the form host:port")
        pairs.append((name.strip("[]"), int(number)))
    try:
        host, port = _asked(pairs, master)
    except (RedisError, OSError) as error:
        raise EngineError(
            f"no Sentinel of WALG_REDIS_SENTINELS tells where '{master}' is: {error}",
            hint="check WALG_REDIS_SENTINELS and WALG_REDIS_SENTINEL_MASTER",
        ) from error
    return found._replace(host=str(host), port=int(port), socket="")


def _asked(pairs: list[tuple[str, int]], master: str) -> tuple[str, int]:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    watchers: Any = redis.Sentinel
    host, port = watchers(pairs, socket_timeout=10.0, retry=Retry(NoBackoff(), 0)).discover_master(master)
    return host, port


def client(where: Address) -> redis.Redis:
    """A client that connects on first use. The caller closes it."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options: dict[str, Any] = {
        "username": where.username if where.password else None,
        "password": where.password or None,
        "db": where.database,
        "socket_timeout": where.timeout,
        "retry": Retry(NoBackoff(), 0),
    }
    if where.socket:
        return redis.Redis(unix_socket_path=where.socket, **options)
    if where.tls:
        tls = where.tls
        options |= {"ssl": True, "ssl_ca_certs": tls.authority, "ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
    return redis.Redis(host=where.host, port=where.port, **options)


def facts(config: Config) -> Facts:
    """INFO's memory and keyspace; a server that does not answer is only reported: a backup works without."""
    from redis import RedisError

    try:
        with client(address(config)) as server:
            memory: dict[str, Any] = dict(server.info("memory"))
            keyspace: dict[str, Any] = dict(server.info("keyspace"))
    except (RedisError, OSError, WalgError) as error:
        log.warning(f"the server does not tell its memory and databases, the backup's details stay empty: {error}")
        return Facts()
    numbers = [int(name[2:]) for name in keyspace if name.startswith("db") and name[2:].isdigit()]
    return Facts(int(memory.get("used_memory", 0)), int(memory.get("used_memory_rss", 0)), max(numbers, default=0))


def command_environment(config: Config) -> dict[str, str]:
    """What stream commands get besides our environment."""
    password = config.get("WALG_REDIS_PASSWORD")
    return {"REDISCLI_AUTH": password} if password else {}
