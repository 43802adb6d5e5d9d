"""TLS with certificates of our own, and a server that is strict: Swift's S3 side."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from walg_core.builtin import walg_register_settings
from walg_core.errors import ConfigError, ObjectExists, PermanentError, StorageError
from walg_core.pipeline.reader import BytesReader
from walg_core.settings.config import Config
from walg_core.testing import StorageConformance
from walg_storage_s3 import testing, versions
from walg_storage_s3.bucket import S3Storage
from walg_storage_s3.locking import LockedUpload
from walg_storage_s3.plugin import SETTINGS
from walg_storage_s3.storage import create


def open_storage(settings: dict[str, str]) -> S3Storage:
    return create(Config([*walg_register_settings(), *SETTINGS], flags=settings), settings["WALG_S3_PREFIX"])


def certificate(folder: Path, name: str, *, address: str = "127.0.0.1", days: int = 1) -> tuple[Path, Path, Path]:
    """Files of an authority, of a certificate by it for an address, and of that one's key.

    The certificate ends `days` from now; negative: it has ended.
    """
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} authority")])
    now = datetime.datetime.now(datetime.UTC)

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=10))
            .not_valid_after(now + datetime.timedelta(days=days))
        )

    authority = (
        builder(issuer, authority_key.public_key(), 10)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    address_name = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    made = (
        builder(subject, key.public_key(), days)
        .add_extension(address_name, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    ca, pem, private = (folder / f"{name}.{kind}" for kind in ("ca", "pem", "key"))
    ca.write_bytes(authority.public_bytes(encoding))
    pem.write_bytes(made.public_bytes(encoding))
    private.write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return ca, pem, private


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module", params=["good", "expired", "other host"])
def tls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    folder = tmp_path_factory.mktemp("tls")
    kind: str = request.param
    made = {"good": {}, "expired": {"days": -1}, "other host": {"address": "192.0.2.1"}}[kind]
    ca, pem, key = certificate(folder, "server", **made)  # type: ignore[arg-type]
    unchecked = ssl._create_unverified_context()
    with testing.moto("-c", str(pem), "-k", str(key), tls=unchecked) as url:
        testing.make_bucket(url, tls=unchecked)
        yield kind, url, ca


def test_certificates(tls: tuple[str, str, Path], tmp_path: Path) -> None:
    kind, url, ca = tls
    settings = {
        "WALG_S3_PREFIX": f"s3://bucket/{uuid.uuid4()}",
        "AWS_ENDPOINT": url,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "us-east-1",
        "AWS_S3_FORCE_PATH_STYLE": "true",
        "S3_MAX_RETRIES": "0",
    }
    stranger, _, _ = certificate(tmp_path, "stranger")
    for trusted in (stranger, ca, None):
        storage = open_storage({**settings, **({"S3_CA_CERT_FILE": str(trusted)} if trusted else {})})
        if kind == "good" and trusted == ca:
            storage.put_bytes("x", b"over TLS")
            assert storage.get("x") == b"over TLS"
            assert [info.key for info in storage.list_versions()] == ["x"]
            continue
        for work in (lambda s: s.stat("x"), lambda s: s.rest.request("GET", "", {"versioning": ""})):
            with pytest.raises(StorageError) as caught:
                work(storage)
            assert "S3_CA_CERT_FILE" in (caught.value.hint or ""), caught.value
            assert isinstance(caught.value, PermanentError), caught.value


def test_a_file_without_certificates(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing in here")
    with pytest.raises(ConfigError, match="S3_CA_CERT_FILE"):
        open_storage({"WALG_S3_PREFIX": "s3://bucket/x", "S3_CA_CERT_FILE": str(path)})


@pytest.fixture(scope="module")
def swift() -> Iterator[dict[str, str]]:
    """Swift's S3 side, which checks every digest, part and signature."""
    testing = pytest.importorskip("walg_storage_swift.testing")
    pytest.importorskip("swift")
    with testing.emulator() as emulator:
        settings = {
            "WALG_S3_PREFIX": "s3://strict/x",
            "AWS_ENDPOINT": emulator.url,
            "AWS_ACCESS_KEY_ID": "test:tester",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
            "AWS_S3_FORCE_PATH_STYLE": "true",
            "S3_MAX_PART_SIZE": str(5 << 20),
        }
        open_storage(settings).rest.request("PUT")
        yield settings


class TestSwift(StorageConformance):
    many = 60
    key_reserve = 64  # the root of every test, before a longest name

    def test_if_absent_race_has_one_winner(self, storage: S3Storage) -> None:
        """Swift looks first and writes then: several may win."""

    @pytest.fixture
    def storage(self, swift: dict[str, str]) -> S3Storage:
        return open_storage({**swift, "WALG_S3_PREFIX": f"s3://strict/{uuid.uuid4()}"})


def test_our_own_uploads_satisfy_a_strict_server(swift: dict[str, str]) -> None:
    storage = open_storage(swift)
    content = os.urandom(11 << 20)
    upload = LockedUpload(storage.rest, "x/by hand", {}, {}, 5 << 20, 4)
    assert upload.put(BytesReader(content), None, False) == len(content)
    assert storage.get("by hand") == content
    assert LockedUpload(storage.rest, "x/small", {}, {}, 5 << 20, 4).put(BytesReader(b"small"), 5, True) == 5
    with pytest.raises(ObjectExists):
        LockedUpload(storage.rest, "x/small", {}, {}, 5 << 20, 4).put(BytesReader(b"other"), 5, True)
    versions.delete(storage.rest, [("x/small", None), ("x/absent", None)])
    assert not storage.exists("small")
