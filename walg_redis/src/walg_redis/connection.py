"""Where the server is and what it says: address, login, TLS, INFO (spec/redis.md 3.2).

Part of cold commands: `ssl` and redis-py are imported where the settings ask for TLS or for a Sentinel.
"""

from collections import namedtuple

from walg_core.errors import ConfigError, EngineError, WalgError
from walg_core.observe import log
from walg_core.settings.config import Config

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from typing import Any, NamedTuple

    from walg_redis.resp import Connection

    class _Tls(NamedTuple):
        authority: str | None
        certificate: str | None
        key: str | None

    class _Address(NamedTuple):
        host: str
        port: int
        socket: str
        username: str
        password: str
        database: int
        tls: "Tls | None"
        timeout: float

    class Facts(NamedTuple):
        """What a sentinel records of the server; zero where it could not be asked."""

        used_memory: int = 0
        used_memory_rss: int = 0
        max_db_number: int = 0
else:
    _Tls = namedtuple("_Tls", "authority certificate key")
    _Address = namedtuple("_Address", "host port socket username password database tls timeout")
    Facts = namedtuple("Facts", "used_memory used_memory_rss max_db_number", defaults=(0, 0, 0), module=__name__)


class Tls(_Tls):
    """Files in PEM form; None: the system's authorities, no certificate of our own."""

    __slots__ = ()

    def context(self) -> "ssl.SSLContext":
        """Raises ConfigError when a file cannot be used."""
        import ssl

        try:
            made = ssl.create_default_context(cafile=self.authority)
            if self.certificate:
                made.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"a file of WALG_REDIS_TLS_CA, WALG_REDIS_TLS_CERT or WALG_REDIS_TLS_KEY cannot be used: {error}"
            ) from error
        return made


class Address(_Address):
    """Where and as whom. `socket` wins over host and port; `timeout` in seconds."""

    __slots__ = ()

    @property
    def shown(self) -> str:
        return self.socket or f"{self.host}:{self.port}"


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


def info(server: "Connection", section: str) -> dict[str, str]:
    """INFO's `name:value` lines. Raises EngineError."""
    answer = server.ask("INFO", section)
    lines = answer.decode("utf-8", "replace").splitlines() if isinstance(answer, bytes) else []
    return {name: value for name, sign, value in (line.partition(":") for line in lines) if sign}


def facts(config: Config) -> Facts:
    """INFO's memory and keyspace; a server that does not answer is only reported: a backup works without."""
    from walg_redis.resp import Connection

    try:
        where = address(config)
        # Details are not worth the wait that data is.
        server = Connection(where._replace(timeout=min(where.timeout, 10.0)))
    except WalgError as error:
        return _unknown(error)
    try:
        return facts_of(server)
    finally:
        server.close()


def facts_of(server: "Connection") -> Facts:
    """The same over a connection; a refusal is only reported, too."""
    try:
        memory, keyspace = info(server, "memory"), info(server, "keyspace")
    except WalgError as error:
        return _unknown(error)
    numbers = [int(name[2:]) for name in keyspace if name.startswith("db") and name[2:].isdigit()]
    return Facts(_number(memory, "used_memory"), _number(memory, "used_memory_rss"), max(numbers, default=0))


def _unknown(error: WalgError) -> Facts:
    log.warning(f"the server does not tell its memory and databases, the backup's details stay empty: {error}")
    return Facts()


def _number(values: dict[str, str], name: str) -> int:
    text = values.get(name, "")
    return int(text) if text.isdigit() else 0


def command_environment(config: Config) -> dict[str, str]:
    """What stream commands get besides our environment."""
    password = config.get("WALG_REDIS_PASSWORD")
    return {"REDISCLI_AUTH": password} if password else {}
