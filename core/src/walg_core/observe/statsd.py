"""StatsD over UDP, once at the end of a command (spec/config.md 14): `name[,tag=value...]:VALUE|TYPE`, line by line."""

import socket

from walg_core.observe import log, metrics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from walg_core.settings.config import Config

_DATAGRAM = 1432
"""Bytes of a datagram's payload that cross an Ethernet link unfragmented."""


def lines(tags: "dict[str, str]") -> "Iterator[str]":
    """Every metric, zeros included; only the S3 statuses that were seen."""
    suffix = "".join(f",{name}={value}" for name, value in tags.items())
    for metric in metrics.ALL:
        yield f"{metric.name}{suffix}:{int(metric.value)}|{metric.kind}"
    for code, value in metrics.responses().items():
        yield f"walg_s3_response_,code={code}{suffix}:{int(value)}|{metrics.GAUGE}"


def datagrams(each_line: "Iterable[str]", limit: int = _DATAGRAM) -> "Iterator[bytes]":
    """The lines, joined by newlines, in payloads of at most `limit` bytes (a longer line goes alone)."""
    payload = b""
    for line in each_line:
        raw = line.encode()
        if payload and len(payload) + 1 + len(raw) > limit:
            yield payload
            payload = raw
        else:
            payload = payload + b"\n" + raw if payload else raw
    if payload:
        yield payload


def _tags(config: "Config") -> dict[str, str]:
    """The extra tags; like the original's, their names are in lower case when they come from a file."""
    from_file = config.origin("WALG_STATSD_EXTRA_TAGS").startswith("file ")
    given = (config.get("WALG_STATSD_EXTRA_TAGS") or {}).items()
    return {str(name).lower() if from_file else str(name): str(value) for name, value in given}


def send(config: "Config") -> None:
    """Send everything to `WALG_STATSD_ADDRESS`; a failure is only a warning."""
    address = config.get("WALG_STATSD_ADDRESS")
    host, sign, port = address.rpartition(":")
    try:
        tags = _tags(config)
        if not sign:
            raise ValueError("expected host:port")
        family, kind, protocol, _, target = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as channel:
            for payload in datagrams(lines(tags)):
                channel.sendto(payload, target)
    except (OSError, ValueError) as error:
        log.warning(f"metrics could not be sent to WALG_STATSD_ADDRESS {address}: {error}")
