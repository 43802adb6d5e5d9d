"""`wal-g crypto check`, and that nothing is ever stored unencrypted by mistake."""

from __future__ import annotations

import pytest

_CIPHER = """
from walg_core.declarations import CrypterType
from walg_core.errors import ConfigError
from walg_core.hookspecs import hookimpl
from walg_core.pipeline.reader import BytesReader, read_all
from walg_core.settings.declare import Setting


class Mirror:
    name = "Mirror"

    def __init__(self, config):
        self.private = config.get("WALG_MIRROR_PRIVATE") == "yes"

    def encrypt(self, source):
        return BytesReader(b"!" + bytes(byte ^ 85 for byte in read_all(source)))

    def decrypt(self, source):
        if not self.private:
            raise ConfigError("the private part is missing", hint="set WALG_MIRROR_PRIVATE")
        return BytesReader(bytes(byte ^ 85 for byte in read_all(source)[1:]))


@hookimpl
def walg_register_crypters():
    return [CrypterType("mirror", factory="mirror:Mirror", selected_by=("WALG_MIRROR_KEY",), settings=(
        Setting("WALG_MIRROR_KEY", "a key"), Setting("WALG_MIRROR_PRIVATE", "the other half"),
    ))]
"""


@pytest.fixture
def mirror(machine):
    machine.install("walg-mirror", {"mirror.py": _CIPHER}, {"walg.crypters": {"mirror": "mirror"}})
    others = ",awskms,libsodium,openpgp,yckms"
    machine.environment["WALG_DISABLED_PLUGINS"] += others
    return machine


def test_both_directions(mirror) -> None:
    done = mirror.run("crypto", "check", WALG_MIRROR_KEY="k", WALG_MIRROR_PRIVATE="yes")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["OK", "cipher"],
        ["OK", "encrypt"],
        ["OK", "decrypt"],
    ]


def test_what_is_missing_is_named(mirror) -> None:
    done = mirror.run("crypto", "check", WALG_MIRROR_KEY="k")
    assert done.returncode == 1
    assert "FAILED   decrypt  the private part is missing" in done.stdout
    assert "hint: set WALG_MIRROR_PRIVATE" in done.stdout
    assert mirror.run("crypto", "check", "--write-only", WALG_MIRROR_KEY="k").returncode == 0


def test_no_cipher(mirror) -> None:
    done = mirror.run("crypto", "check")
    assert done.returncode == 1
    assert "objects are stored unencrypted" in done.stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("WALG_MIRROR_PRIVATE", "WALG_MIRROR_PRIVATE is set, but no cipher is selected"),
        ("WALG_LIBSODIUM_KEY", "walg-crypto-libsodium"),
        ("WALG_GPG_KEY_ID", "walg-crypto-openpgp"),
        ("WALG_CSE_KMS_ID", "walg-crypto-awskms"),
        ("YC_CSE_KMS_KEY_ID", "walg-crypto-yckms"),
    ],
)
def test_never_silently_unencrypted(mirror, name: str, words: str) -> None:
    (mirror.root / "file").write_text("data")
    done = mirror.run("st", "put", str(mirror.root / "file"), "object", **{name: "x" * 32})
    assert done.returncode == 1
    assert words in done.stderr
    assert not any(path.is_file() for path in (mirror.root / "archive").rglob("*"))


def test_an_empty_key_in_the_file_is_no_wish_for_plain_objects(mirror) -> None:
    (mirror.root / "file").write_text("data")
    config = mirror.root / "walg.yaml"
    for text, status in (("WALG_MIRROR_KEY: ''\n", 1), ("WALG_MIRROR_KEY:\n", 0), ("WALG_MIRROR_KEY: k\n", 0)):
        config.write_text(text)
        done = mirror.run("--config", str(config), "st", "put", "-f", str(mirror.root / "file"), "object")
        assert done.returncode == status, (text, done.stderr)
        assert ("WALG_MIRROR_KEY is empty" in done.stderr) == bool(status)
