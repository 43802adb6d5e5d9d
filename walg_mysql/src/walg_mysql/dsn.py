"""The data source name of `WALG_MYSQL_DATASOURCE_NAME` (spec/mysql.md 3)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from walg_core.errors import ConfigError
from walg_core.settings.parse import parse_bool, parse_duration


@dataclass(frozen=True, slots=True)
class DataSource:
    """Where and as whom to connect. Times are in seconds, None without limit; the password is not in `repr`."""

    network: str
    host: str
    port: int
    socket: str
    user: str
    password: str = field(repr=False)
    database: str = ""
    tls: str = ""
    timeout: float | None = None
    parameters: dict[str, str] = field(default_factory=dict)

    def ssl_context(self, ca_file: str | None) -> ssl.SSLContext | None:
        """None for a plain connection. Raises ConfigError for contradictory or unknown settings."""
        if ca_file:
            if self.tls:
                raise ConfigError("WALG_MYSQL_SSL_CA and the data source's parameter tls exclude each other")
            try:
                return ssl.create_default_context(cafile=ca_file)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"WALG_MYSQL_SSL_CA: cannot read {ca_file}: {error}") from error
        low = self.tls.lower()
        if low in ("", "false", "0"):
            return None
        if low in ("true", "1"):
            return ssl.create_default_context()
        if low in ("skip-verify", "preferred"):
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        raise ConfigError(
            f"the data source's parameter tls is {self.tls!r}: expected true, false, skip-verify or preferred"
        )

    @property
    def tls_optional(self) -> bool:
        """Whether a server without TLS is acceptable (`tls=preferred`)."""
        return self.tls.lower() == "preferred"


def parse_dsn(text: str, setting: str = "WALG_MYSQL_DATASOURCE_NAME") -> DataSource:
    """`[user[:password]@][net[(addr)]]/dbname[?k=v&…]`; no message repeats the text, it holds the password.

    Split at the last `/`, then at the last `@`, the credentials at the first `:`. Raises ConfigError.
    """
    endpoint, slash, right = text.rpartition("/")
    if not slash:
        raise ConfigError(
            f"{setting} has no '/': expected user:password@tcp(host:port)/database",
            hint="add a slash before the (possibly empty) database name",
        )
    credentials, at, address = endpoint.rpartition("@")
    user, _, password = credentials.partition(":") if at else ("", "", "")
    database, _, query = right.partition("?")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    network, host, port, socket = _address(address, setting)
    _check_compress(parameters.get("compress", ""), setting)
    return DataSource(
        network=network,
        host=host,
        port=port,
        socket=socket,
        user=user,
        password=password,
        database=unquote(database),
        tls=parameters.get("tls", ""),
        timeout=_seconds(parameters, "timeout", setting),
        parameters=parameters,
    )


def _address(text: str, setting: str) -> tuple[str, str, int, str]:
    network, address = "tcp", text
    if "(" in text:
        network, _, rest = text.partition("(")
        if not rest.endswith(")"):
            raise ConfigError(f"{setting}: the address's parenthesis is not closed")
        network, address = network or "tcp", rest[:-1]
    if network == "unix":
        return network, "localhost", 0, address or "/tmp/mysql.sock"  # noqa: S108 - the client libraries' default
    if network != "tcp":
        raise ConfigError(f"{setting}: unknown network {network!r}, expected tcp or unix")
    address = address or "127.0.0.1:3306"
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address, "3306"
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"{setting}: the port is not a number between 1 and 65535")
    return network, host.strip("[]"), int(port), ""


def _seconds(parameters: dict[str, str], name: str, setting: str) -> float | None:
    if not parameters.get(name):
        return None
    try:
        return parse_duration(parameters[name]) or None
    except ValueError as error:
        raise ConfigError(f"{setting}: parameter {name}: {error}") from None


def _check_compress(value: str, setting: str) -> None:
    if value in ("", "zlib", "zstd"):
        return
    try:
        parse_bool(value)
    except ValueError:
        raise ConfigError(f"{setting}: parameter compress: expected zlib, zstd, true or false") from None
