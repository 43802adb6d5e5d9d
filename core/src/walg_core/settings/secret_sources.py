"""Secrets from files and commands: for every secret setting NAME also `NAME_FILE` and `NAME_COMMAND`.

The value itself wins over the file, the file over the command. Such a value is never exported to child processes.
"""

from walg_core.errors import ConfigError

SUFFIXES = ("_FILE", "_COMMAND")
_COMMAND_SECONDS = 60.0


def fetch(suffix: str, given: str, origin: str) -> str:
    """The secret that a file holds or a command prints, without its last line ends. Raises ConfigError."""
    from walg_core.observe.redact import hide

    value = _from_file(given, origin) if suffix == "_FILE" else _from_command(given, origin)
    if not value:
        raise ConfigError(f"{origin} gives an empty secret")
    hide(value)
    return value


def _from_file(path: str, origin: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"{origin}: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{origin}: {path} is not UTF-8 text") from error


def _from_command(command: str, origin: str) -> str:
    import os
    import subprocess

    shell = os.environ.get("SHELL") or "/bin/sh"
    try:
        done = subprocess.run(
            [shell, "-c", command],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{origin}: the command did not end within {_COMMAND_SECONDS:.0f} s") from None
    except OSError as error:
        raise ConfigError(f"{origin}: cannot run the command: {error.strerror}") from error
    if done.returncode:
        raise ConfigError(f"{origin}: the command failed with status {done.returncode}")
    return done.stdout.decode("utf-8", "replace").rstrip("\r\n")
