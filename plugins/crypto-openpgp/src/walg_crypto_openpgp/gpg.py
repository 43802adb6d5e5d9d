"""Keys out of gpg's own keyring, and the original's cache of the public one (spec/compression-crypto.md 7)."""

import base64
import os

from walg_core.errors import ConfigError
from walg_core.observe import log

CACHE = ".walg_key_cache"
_SECONDS = 120.0


def public_key(user_id: str) -> bytes:
    """The armored public key, from the cache where that holds this very id; gpg is asked otherwise, then cached."""
    path = _cache_path()
    cached = _read_cache(path, user_id)
    if cached is not None:
        return cached
    body, messages = _gpg("--export", user_id)
    if messages:
        raise ConfigError(
            f"Got error while exporting gpg key: '{messages}'", hint=f"does `gpg -a --export {user_id}` work?"
        )
    _write_cache(path, user_id, body)
    return body


def secret_key(user_id: str) -> bytes:
    """The armored private key; never cached."""
    return _gpg("--export-secret-key", user_id)[0]


def _gpg(option: str, user_id: str) -> tuple[bytes, str]:
    import subprocess

    try:
        # A user id that begins with a dash must not become an option.
        done = subprocess.run(
            ["gpg", "-a", option, "--", user_id],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise ConfigError(
            'exec: "gpg": executable file not found in $PATH', hint="install GnuPG, or use WALG_PGP_KEY_PATH"
        ) from None
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"gpg {option} did not end within {_SECONDS:.0f} s", hint="does gpg wait for a passphrase?"
        ) from None
    messages = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode:
        raise ConfigError(
            f"gpg {option}: exit status {done.returncode}: {messages}", hint="is the key in gpg's keyring?"
        )
    return done.stdout, messages


def _cache_path() -> str:
    import pwd

    return os.path.join(pwd.getpwuid(os.getuid()).pw_dir, CACHE)


def _read_cache(path: str, user_id: str) -> bytes | None:
    import json

    try:
        with open(path, "rb") as file:
            entry = json.loads(file.read(1 << 24))
        if entry["keyId"] != user_id or not entry["body"]:
            return None
        return base64.b64decode(entry["body"], validate=True)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.error(f"{path} cannot be used and is ignored: {error}")
        return None


def _write_cache(path: str, user_id: str, body: bytes) -> None:
    import json

    from walg_core.io.atomic import write_file

    entry = json.dumps({"keyId": user_id, "body": base64.b64encode(body).decode()}, separators=(",", ":"))
    try:
        write_file(path, entry.encode(), mode=0o644)
    except OSError as error:
        log.warning(f"{path} cannot be written: gpg is asked every time ({error})")
