"""Yandex KMS against a stand-in that speaks its public protocol over TLS (the real one cannot be had)."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from hypothesis import given
from hypothesis import strategies as st
from walg_core.errors import AccessDenied, IntegrityError, PermanentError, TransientError
from walg_core.pipeline.reader import BytesReader, read_all
from walg_core.settings.config import Config
from walg_crypto_yckms import protobuf
from walg_crypto_yckms.crypter import create
from walg_crypto_yckms.plugin import SETTINGS
from walg_crypto_yckms.testing import TOKEN, YandexStub


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[YandexStub]:
    stub = YandexStub(tmp_path_factory.mktemp("stub"))
    yield stub
    stub.close()


@pytest.fixture
def stub(running: YandexStub) -> YandexStub:
    running.calls.clear()
    running.failures.clear()
    return running


def made(stub: YandexStub, **settings: str):
    environment = {
        "YC_CSE_KMS_KEY_ID": stub.key_id,
        "YC_SERVICE_ACCOUNT_KEY_FILE": str(stub.account_file),
        "YC_API_ENDPOINT": stub.address,
        "YC_CA_FILE": str(stub.ca_file),
    }
    return create(Config(SETTINGS, environment={**environment, **settings}))


def seal(crypter, data: bytes) -> bytes:
    return read_all(crypter.encrypt(BytesReader(data)))


def opened(crypter, data: bytes) -> bytes:
    return read_all(crypter.decrypt(BytesReader(data)))


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 200_000])
def test_round_trip_and_form(stub: YandexStub, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    stored = seal(made(stub), data[:size])
    length = int.from_bytes(stored[6:10], "little")
    assert (stored[:6], length) == (b"yckms\x01", 12 + 32 + 16)
    assert len(stored) == 10 + length + size + 32 * -(-size // 65536)
    assert opened(made(stub), stored) == data[:size]


def test_discovery_token_and_data_key_are_asked_for_once(stub: YandexStub) -> None:
    crypter = made(stub)
    stored = [seal(crypter, b"x") for _ in range(4)]
    assert [opened(crypter, each) for each in stored] == [b"x"] * 4
    assert stub.calls == ["List", "Create", "GenerateDataKey", "Decrypt"]


def test_the_token_request_is_signed_by_the_account(stub: YandexStub) -> None:
    seal(made(stub), b"x")
    head, claims, signature = stub.tokens_asked_with[-1].split(".")
    account = json.loads(stub.account_file.read_text())
    pem = account["private_key"]
    key = serialization.load_pem_private_key(pem[pem.index("-----") :].encode(), None)
    raw = base64.urlsafe_b64decode(signature + "==")
    key.public_key().verify(
        raw, f"{head}.{claims}".encode(), padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()
    )
    assert json.loads(base64.urlsafe_b64decode(head + "==")) == {"typ": "JWT", "alg": "PS256", "kid": "key-1"}
    assert json.loads(base64.urlsafe_b64decode(claims + "=="))["iss"] == "account-1"


def test_the_instances_own_account(stub: YandexStub, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.headers["Metadata-Flavor"] == "Google"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"access_token": TOKEN, "expires_in": 3600}).encode())

        def log_message(self, *words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("YC_METADATA_ADDR", f"127.0.0.1:{server.server_port}")
    crypter = made(stub, YC_SERVICE_ACCOUNT_KEY_FILE="/nowhere")
    assert opened(crypter, seal(crypter, b"x")) == b"x"
    assert "the instance's own service account is tried" in capsys.readouterr().err
    assert "Create" not in stub.calls
    server.shutdown()
    server.server_close()


def test_failures_have_names_and_passing_ones_are_survived(stub: YandexStub) -> None:
    stub.failures[:] = [("GenerateDataKey", "UNAVAILABLE"), ("GenerateDataKey", "UNAVAILABLE")]
    assert seal(made(stub), b"x")
    stub.failures[:] = [("GenerateDataKey", "PERMISSION_DENIED")]
    with pytest.raises(AccessDenied, match="PERMISSION_DENIED"):
        seal(made(stub), b"x")
    with pytest.raises(PermanentError, match="NOT_FOUND"):
        seal(made(stub, YC_CSE_KMS_KEY_ID="other"), b"x")


def test_an_unreachable_service(stub: YandexStub) -> None:
    with pytest.raises(TransientError, match="UNAVAILABLE"):
        seal(made(stub, YC_API_ENDPOINT="127.0.0.1:1"), b"x")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: b"", "invalid encrypted header format"),
        (lambda s: s[:7], "invalid encrypted header format"),
        (lambda s: b"zckms" + s[5:], "invalid encrypted header format"),
        (lambda s: s[:5] + b"\x02" + s[6:], "scheme version is not supported"),
        (lambda s: s[:6] + (5000).to_bytes(4, "little") + s[10:], "invalid size of the encrypted key"),
        (lambda s: s[:30], "invalid size of the encrypted key"),
        (lambda s: s[:20] + bytes((s[20] ^ 1,)) + s[21:], "INVALID_ARGUMENT"),
        (lambda s: s[:-1], "invalid payload size"),
        (lambda s: s[:71] + b"\x01" + s[72:], "unsupported cipher suite"),
    ],
)
def test_damage(stub: YandexStub, change, words: str) -> None:
    stored = seal(made(stub), b"some data")
    with pytest.raises(IntegrityError, match=words):
        opened(made(stub), change(stored))


@given(st.dictionaries(st.integers(1, 500), st.one_of(st.binary(min_size=1, max_size=300), st.integers(1, 2**60))))
def test_messages_round_trip(values: dict[int, bytes | int]) -> None:
    expected = {number: [value] for number, value in values.items() if isinstance(value, bytes)}
    assert protobuf.fields(protobuf.message(values)) == expected


@given(st.binary(max_size=60))
def test_noise_is_no_crash(data: bytes) -> None:
    try:
        protobuf.fields(data)
    except PermanentError:
        pass
