"""`walg-daemon-client SOCKET wal-push NAME` and `… wal-fetch NAME DESTINATION`: asks the daemon to do it.

Imports next to nothing, so that it starts as fast as the interpreter. Forms and exit statuses: spec/postgres-wal.md
11.4. PostgreSQL gets 74 only when no storage has the file.
"""

import sys
import time

USAGE = """usage: walg-daemon-client SOCKET wal-push NAME [options]
       walg-daemon-client SOCKET wal-fetch NAME DESTINATION [options]
"""
FLAGS = """  -timeout DURATION             time for the whole request (default 60s)
  -connection-timeout DURATION  time to reach the daemon (default 5s)
"""
_UNITS = (("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("s", 1.0), ("m", 60.0), ("h", 3600.0))


class Failed(Exception):
    """The request failed; the message says how."""


class BadUsage(Exception):
    """The arguments are not of the command's form."""


def main() -> None:
    """Console script."""
    sys.exit(run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    """0 done, 74 not in the archive, 1 anything else."""
    if argv and argv[0].lower() == "--version":
        from importlib.metadata import version

        print(f"walg-daemon-client\t{version('walg-pg')}\t-\t-")
        return 0
    try:
        socket, kind, words, timeout, connection_timeout = parse(argv)
    except BadUsage as error:
        sys.stdout.write(f"{error}\n{USAGE}" if str(error) else USAGE)
        sys.stderr.write(FLAGS)
        return 1
    try:
        reply = ask(socket, request(kind, words), timeout, connection_timeout)
    except (OSError, ValueError, Failed) as error:
        return _fail(f"{socket}: {error}")
    if reply == b"O":
        return 0
    letter = "f" if kind == "wal-fetch" else "F"
    text = f"daemon command run error [message type: {letter}, args: [{' '.join(words)}], daemon response: "
    if reply == b"N":
        print(f"{text}N]")
        return 74
    return _fail(f"{text}{reply.decode('latin-1') or 'none'}]; the daemon's log says why")


def _fail(text: str) -> int:
    sys.stderr.write(f"{time.strftime('%Y/%m/%d %H:%M:%S')} {text}\n")
    return 1


def parse(argv: list[str]) -> tuple[str, str, list[str], float, float]:
    """Socket, command, its arguments, and the two times in seconds. Raises BadUsage."""
    words: list[str] = []
    times = {"timeout": 60.0, "connection-timeout": 5.0}
    tokens = iter(argv)
    for token in tokens:
        if not token.startswith("-") or len(words) < 3:
            words.append(token)
            continue
        name, equals, value = token.lstrip("-").partition("=")
        if name not in times:
            raise BadUsage(f"unknown flag {token}")
        if not equals:
            value = next(tokens, "")
        times[name] = seconds(value)
    if len(words) < 3:
        raise BadUsage("")
    command = words[1].lower()
    wanted = {"wal-push": 1, "wal-fetch": 2}.get(command)
    if wanted is None:
        raise BadUsage(f"unknown command {words[1]!r}")
    if len(words) < 2 + wanted:
        raise BadUsage(f"{command} needs {wanted} arguments")
    return words[0], command, words[2 : 2 + wanted], times["timeout"], times["connection-timeout"]


def seconds(text: str) -> float:
    """A duration like `90s`, `1m30s` or `500ms`."""
    total, rest = 0.0, text
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number) :]
        for unit, factor in _UNITS:
            if number and rest.startswith(unit) and not (unit == "m" and rest.startswith("ms")):
                try:
                    total += float(number) * factor
                except ValueError:
                    raise BadUsage(f"{text!r} is not a duration like 90s or 1m30s") from None
                rest = rest[len(unit) :]
                break
        else:
            if text == "0":
                return 0.0
            raise BadUsage(f"{text!r} is not a duration like 90s or 1m30s")
    return total


def request(kind: str, words: list[str]) -> bytes:
    """The frame of a command: a push carries the bare name, a fetch an argument list."""
    from walg_pg.daemon import protocol

    if kind == "wal-push":
        return protocol.frame(protocol.PUSH, words[0].encode())
    return protocol.frame(protocol.FETCH, protocol.arguments(*words))


def ask(path: str, data: bytes, timeout: float, connection_timeout: float) -> bytes:
    """Send one request; the daemon's one-byte reply, empty when it closed without one."""
    # The C module alone: `socket` would load selectors and enum, 6 ms.
    import _socket

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(connection_timeout or None)
        connection.connect(path)
        deadline = time.monotonic() + timeout
        connection.settimeout(timeout or None)
        connection.sendall(data)
        if timeout:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
        return connection.recv(1)
    except TimeoutError as error:
        raise Failed("the daemon did not answer in time") from error
    finally:
        connection.close()


if __name__ == "__main__":
    main()
