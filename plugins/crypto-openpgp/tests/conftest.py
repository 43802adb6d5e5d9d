"""A gpg with a home of its own, and keys that are made once a run."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


class Gpg:
    """`gpg` on a private keyring; `passphrase` protects every key that it makes."""

    def __init__(self, home: Path, passphrase: str = "") -> None:
        self.home = home
        self.passphrase = passphrase
        self.environment = {"PATH": os.environ["PATH"], "GNUPGHOME": str(home), "HOME": str(home), "LC_ALL": "C"}

    def run(self, *words: str, data: bytes = b"") -> bytes:
        command = [
            "gpg",
            "--batch",
            "--yes",
            "--no-tty",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            self.passphrase,
        ]
        command += ["--trust-model", "always", "--compliance", "gnupg"]
        done = subprocess.run([*command, *words], input=data, capture_output=True, env=self.environment, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def make(self, user: str, primary: str, sub: str, *, at: str = "", expire: str = "never") -> str:
        """A key with an encryption sub-key; its fingerprint. `sub` empty: only the primary."""
        when = ["--faked-system-time", at] if at else []
        self.run(*when, "--quick-gen-key", user, primary, "cert,sign" if sub else "cert,sign,encr", expire)
        fingerprint = self.fingerprint(user)
        if sub:
            self.run(*when, "--quick-add-key", fingerprint, sub, "encr", expire)
        return fingerprint

    def fingerprint(self, user: str) -> str:
        rows = self.run("--with-colons", "--list-keys", user).decode().splitlines()
        return next(row.split(":")[9] for row in rows if row.startswith("fpr"))

    def public(self, *users: str) -> bytes:
        return self.run("-a", "--export", *users)

    def private(self, *users: str) -> bytes:
        return self.run("-a", "--export-secret-keys", *users)

    def encrypt(self, data: bytes, user: str, *options: str) -> bytes:
        return self.run(*options, "-r", user, "-e", data=data)

    def decrypt(self, data: bytes) -> bytes:
        return self.run("-d", data=data)

    def close(self) -> None:
        subprocess.run(["gpgconf", "--kill", "all"], env=self.environment, capture_output=True, check=False)


def _gpg(passphrase: str) -> Iterator[Gpg]:
    if not shutil.which("gpg"):
        pytest.skip("gpg is not installed")
    # The agent's socket must have a short path.
    home = Path(tempfile.mkdtemp(prefix="walg-gpg-", dir="/tmp"))
    made = Gpg(home, passphrase)
    yield made
    made.close()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def gpg() -> Iterator[Gpg]:
    yield from _gpg("")


@pytest.fixture(scope="session")
def locked_gpg() -> Iterator[Gpg]:
    yield from _gpg("pass phrase ü")
