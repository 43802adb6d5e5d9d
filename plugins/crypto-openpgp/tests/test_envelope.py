"""The envelope scheme, with a stand-in for the key service that speaks its protocol (the real one cannot be had)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from walg_core.crypto.envelope import OpenedKeys, pack_header, unpack_header
from walg_core.errors import ConfigError, IntegrityError, TransientError
from walg_core.pipeline.reader import BytesReader, read_all
from walg_core.settings.config import Config
from walg_crypto_openpgp.envelope import create
from walg_crypto_openpgp.plugin import ENVELOPE

testing = pytest.importorskip("walg_crypto_yckms.testing", reason="walg-crypto-yckms is not installed")


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    made = testing.YandexStub(tmp_path_factory.mktemp("stub"))
    yield made
    made.close()


@pytest.fixture
def private(gpg) -> bytes:
    if "envelope@example.org" not in gpg.run("-k").decode():
        gpg.make("envelope@example.org", "ed25519", "cv25519")
    return gpg.private("envelope@example.org")


def configured(stub, private: bytes, **more: str):
    environment = {
        "WALG_ENVELOPE_PGP_KEY": base64.encodebytes(stub.seal(private)).decode(),
        "WALG_ENVELOPE_PGP_YC_CSE_KMS_KEY_ID": stub.key_id,
        "WALG_ENVELOPE_PGP_YC_SERVICE_ACCOUNT_KEY_FILE": str(stub.account_file),
        "WALG_ENVELOPE_PGP_YC_ENDPOINT": stub.address,
        "YC_CA_FILE": str(stub.ca_file),
        **more,
    }
    return create(Config(ENVELOPE, environment=environment))


def test_round_trip_form_and_calls(stub, private: bytes, gpg) -> None:
    crypter = configured(stub, private)
    stub.calls.clear()
    stored = read_all(crypter.encrypt(BytesReader(b"data" * 100_000)))
    assert read_all(crypter.decrypt(BytesReader(stored))) == b"data" * 100_000
    assert stub.calls == ["Create", "Decrypt"]
    source = BytesReader(stored)
    names, sealed = unpack_header(source)
    assert names == gpg.fingerprint("envelope@example.org")[-16:].lstrip("0")
    assert gpg.decrypt(read_all(source)) == b"data" * 100_000
    assert stored.startswith(b"envelope-yc-kms\x01\x10\0\0\0")
    other = configured(stub, b"another ring", WALG_ENVELOPE_PGP_KEY=base64.b64encode(b"never asked for").decode())
    assert read_all(other.decrypt(BytesReader(stored))) == b"data" * 100_000
    assert len(sealed) == 28 + len(private)


def test_settings_are_checked_before_anything_is_read(stub, private: bytes) -> None:
    with pytest.raises(ConfigError, match="KMS key for client-side encryption and decryption must be configured"):
        configured(stub, private, WALG_ENVELOPE_PGP_YC_CSE_KMS_KEY_ID="")
    with pytest.raises(ConfigError, match="not base64"):
        configured(stub, private, WALG_ENVELOPE_PGP_KEY="*")
    crypter = configured(stub, private, WALG_ENVELOPE_PGP_YC_SERVICE_ACCOUNT_KEY_FILE="/nowhere")
    with pytest.raises(ConfigError, match="cannot read /nowhere"):
        read_all(crypter.encrypt(BytesReader(b"x")))


def test_a_key_file_wins(stub, private: bytes, tmp_path: Path) -> None:
    file = tmp_path / "ring"
    file.write_bytes(base64.b64encode(stub.seal(private)) + b"\r\n")
    crypter = configured(stub, private, WALG_ENVELOPE_PGP_KEY="*", WALG_ENVELOPE_PGP_KEY_PATH=str(file))
    assert read_all(crypter.decrypt(crypter.encrypt(BytesReader(b"x")))) == b"x"


@pytest.mark.parametrize("cut", [0, 5, 15, 16, 18, 24, 40, 60, 100, -40, -1])
def test_every_cut(stub, private: bytes, cut: int) -> None:
    crypter = configured(stub, private)
    stored = read_all(crypter.encrypt(BytesReader(b"x" * 100)))
    with pytest.raises(IntegrityError):
        read_all(crypter.decrypt(BytesReader(stored[:cut])))


def test_the_header_is_bounded_and_versioned() -> None:
    header = pack_header("AB,CD", b"k" * 100)
    assert unpack_header(BytesReader(header)) == ("AB,CD", b"k" * 100)
    with pytest.raises(ConfigError, match="more than 8192"):
        pack_header("", bytes(9000))
    with pytest.raises(IntegrityError, match="scheme version"):
        unpack_header(BytesReader(header[:15] + b"\x02" + header[16:]))
    with pytest.raises(IntegrityError, match="absurd"):
        unpack_header(BytesReader(header[:16] + b"\xff\xff\xff\xff" + header[20:]))


def test_unlocked_keys_expire_but_survive_an_outage(capsys) -> None:
    now = [0.0]
    calls: list[bytes] = []
    down = [False]

    def unlock(sealed: bytes) -> bytes:
        calls.append(sealed)
        if down[0]:
            raise TransientError("the service is away")
        return b"plain " + sealed

    keys = OpenedKeys(unlock, 10, clock=lambda: now[0])
    for moment, outage in ((0, False), (9, False), (11, False), (22, True)):
        now[0], down[0] = moment, outage
        assert keys.get(b"k") == b"plain k"
    assert len(calls) == 3
    assert "is used on" in capsys.readouterr().err
    with pytest.raises(TransientError):
        keys.get(b"unknown")
