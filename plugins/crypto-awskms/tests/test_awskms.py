"""AWS KMS against moto's server, whose blobs are shorter than AWS's: a layer before it pads them to 184 bytes."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from walg_core.crypto.datakeys import DataKeyCrypter, DataKeys
from walg_core.errors import ConfigError, IntegrityError, PermanentError, TransientError
from walg_core.pipeline.reader import BytesReader, read_all
from walg_core.settings.config import Config
from walg_crypto_awskms.crypter import BLOB, BareBlob, create
from walg_crypto_awskms.plugin import SETTINGS

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"


def pattern(size: int) -> bytes:
    return bytes((7 * i + i // 256) % 256 for i in range(size))


class Padding:
    """WSGI layer: wrapped keys grow to 184 bytes on their way out and shrink again on their way in."""

    def __init__(self, application) -> None:
        self.application = application
        self.pad = True
        self.calls: list[str] = []

    def __call__(self, environment, start):
        import io

        target = environment.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        self.calls.append(target)
        body = environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
        if target == "Decrypt" and self.pad:
            request = json.loads(body)
            blob = base64.b64decode(request["CiphertextBlob"])
            request["CiphertextBlob"] = base64.b64encode(blob[2 : 2 + int.from_bytes(blob[:2], "big")]).decode()
            body = json.dumps(request).encode()
        environment["wsgi.input"] = io.BytesIO(body)
        environment["CONTENT_LENGTH"] = str(len(body))
        kept: list = []
        out = b"".join(self.application(environment, lambda *words: kept.extend(words[:2])))
        if target == "Encrypt" and self.pad and kept[0].startswith("200"):
            answer = json.loads(out)
            blob = base64.b64decode(answer["CiphertextBlob"])
            padded = (len(blob).to_bytes(2, "big") + blob).ljust(BLOB, b"p")
            answer["CiphertextBlob"] = base64.b64encode(padded).decode()
            out = json.dumps(answer).encode()
        headers = [(name, value) for name, value in kept[1] if name.lower() != "content-length"]
        start(kept[0], [*headers, ("Content-Length", str(len(out)))])
        return [out]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Padding, str]]:
    pytest.importorskip("moto", reason="moto is not installed")
    pytest.importorskip("flask_cors", reason="moto's server needs flask and flask-cors")
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    layer = Padding(DomainDispatcherApplication(create_backend_app))
    running = make_server("127.0.0.1", 0, layer, threaded=True)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield layer, f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    thread.join()


@pytest.fixture
def kms(server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Settings of a fresh key."""
    from botocore.session import Session

    layer, url = server
    layer.pad = True
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testtest")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    client = Session().create_client("kms", region_name="eu-west-1", endpoint_url=url)
    key_id = client.create_key()["KeyMetadata"]["KeyId"]
    layer.calls.clear()
    return {"WALG_CSE_KMS_ID": key_id, "WALG_CSE_KMS_REGION": "eu-west-1", "WALG_CSE_KMS_ENDPOINT": url}


def made(settings: dict[str, str]) -> DataKeyCrypter:
    return create(Config(SETTINGS, environment=settings))


def seal(crypter, data: bytes) -> bytes:
    return read_all(crypter.encrypt(BytesReader(data)))


def opened(crypter, data: bytes) -> bytes:
    return read_all(crypter.decrypt(BytesReader(data)))


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000])
def test_round_trip(kms, size: int) -> None:
    stored = seal(made(kms), pattern(size))
    assert len(stored) == BLOB + size + 32 * -(-size // 65536)
    assert opened(made(kms), stored) == pattern(size)


def test_one_call_for_many_objects_until_the_key_is_too_old(kms, server) -> None:
    crypter = made(kms)
    stored = [seal(crypter, b"x") for _ in range(5)]
    assert len({each[:BLOB] for each in stored}) == 1
    reader = made(kms)
    assert [opened(reader, each) for each in stored] == [b"x"] * 5
    assert server[0].calls == ["Encrypt", "Decrypt"]
    server[0].calls.clear()
    careful = made({**kms, "WALG_KMS_DATA_KEY_LIFETIME": "0s"})
    for _ in range(2):
        assert opened(careful, seal(careful, b"y")) == b"y"
    assert server[0].calls == ["Encrypt", "Decrypt"] * 2


def test_any_key_of_the_region_reads(kms) -> None:
    stored = seal(made(kms), b"data")
    assert opened(made({**kms, "WALG_CSE_KMS_ID": "alias/other"}), stored) == b"data"


def test_a_blob_of_another_length_is_never_written(kms, server) -> None:
    server[0].pad = False
    with pytest.raises(ConfigError, match=r"a wrapped key of \d+ bytes; the format holds only 184"):
        seal(made(kms), b"data")


def test_damage_of_any_part(kms) -> None:
    crypter = made(kms)
    stored = seal(crypter, pattern(70_000))
    for cut in (0, 1, 183, 190, BLOB + 65568, len(stored) - 1):
        with pytest.raises(IntegrityError):
            opened(made(kms), stored[:cut])
    for place in (40, BLOB, BLOB + 5, BLOB + 30, len(stored) - 1):
        changed = bytearray(stored)
        changed[place] ^= 1
        with pytest.raises((IntegrityError, PermanentError)):
            opened(made(kms), bytes(changed))


def test_what_goes_wrong_has_a_name(kms, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PermanentError, match="Can't encrypt symmetric key"):
        seal(made({**kms, "WALG_CSE_KMS_ID": "00000000-0000-0000-0000-000000000000"}), b"x")
    with pytest.raises(TransientError, match="Can't encrypt symmetric key"):
        seal(made({**kms, "WALG_CSE_KMS_ENDPOINT": "http://127.0.0.1:1"}), b"x")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(ConfigError, match="MissingRegion"):
        seal(made({"WALG_CSE_KMS_ID": "x"}), b"x")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigError, match="credentials"):
        seal(made(kms), b"x")


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden archives are not beside the project")
@pytest.mark.parametrize("name", ["awskms-5", "awskms-65536", "awskms-65537", "awskms-chacha-5", "awskms-lz4-5"])
def test_objects_of_the_original(name: str) -> None:
    row = json.loads((GOLDEN / "vectors" / "vectors.json").read_text())[f"{name}.bin"]
    stored = (GOLDEN / "vectors" / f"{name}.bin").read_bytes()

    class Recorded:
        """The test server's answer, as recorded beside the object."""

        def generate(self) -> tuple[bytes, bytes]:
            raise AssertionError

        def unwrap(self, wrapped: bytes) -> bytes:
            assert wrapped == stored[:BLOB]
            return bytes.fromhex(row["dek"])

    plain = opened(DataKeyCrypter("x", DataKeys(Recorded(), 0), BareBlob()), stored)
    if row.get("compression") == "lz4":
        from walg_core.compression.lz4 import compressor

        plain = read_all(compressor.decompress(BytesReader(plain)))
    assert plain == (b"hello" if row["plain"] == "hello" else pattern(int(row["plain"][8:-1])))
