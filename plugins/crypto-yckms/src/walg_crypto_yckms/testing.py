"""A stand-in for the service, for tests: its three protocols over TLS on a local port."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from walg_crypto_yckms.protobuf import first, message

TOKEN = "token-of-the-stub"  # noqa: S105


class YandexStub:
    """Discovery, tokens and the keys of one key id. `calls` are the methods called; `failures` are given out first."""

    def __init__(self, folder: Path, key_id: str = "key-of-the-stub") -> None:
        self.key_id = key_id
        self.calls: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.tokens_asked_with: list[str] = []
        self._key = AESGCM(os.urandom(32))
        self.ca_file = folder / "ca.pem"
        certificate, private = _certificate()
        self.ca_file.write_bytes(certificate)
        self.account_file = folder / "authorized_key.json"
        self.account_file.write_text(json.dumps(_account()))
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((_Router(self),))
        credentials = grpc.ssl_server_credentials([(private, certificate)])
        self.address = f"127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(0).wait()

    def seal(self, plain: bytes) -> bytes:
        """What the service's Encrypt gives."""
        nonce = os.urandom(12)
        return nonce + self._key.encrypt(nonce, plain, self.key_id.encode())

    def answer(self, method: str, request: bytes, context: Any) -> bytes:
        name = method.rpartition("/")[2]
        self.calls.append(name)
        if self.failures and self.failures[0][0] == name:
            context.abort(getattr(grpc.StatusCode, self.failures.pop(0)[1]), "as the test wants it")
        if method == "/yandex.cloud.endpoint.ApiEndpointService/List":
            rows = [message({1: service, 2: self.address}) for service in ("iam", "kms-crypto", "storage")]
            return b"".join(message({1: row}) for row in rows)
        if method == "/yandex.cloud.iam.v1.IamTokenService/Create":
            self.tokens_asked_with.append(first(request, 2).decode())
            return message({1: TOKEN})
        return self._crypto(name, request, context)

    def _crypto(self, name: str, request: bytes, context: Any) -> bytes:
        if dict(context.invocation_metadata()).get("authorization") != f"Bearer {TOKEN}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
        if first(request, 1).decode() != self.key_id:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such key")
        if name == "GenerateDataKey":
            plain = os.urandom(32)
            return message({1: self.key_id, 2: "v1", 3: plain, 4: self.seal(plain)})
        blob = first(request, 3)
        try:
            plain = self._key.decrypt(blob[:12], blob[12:], self.key_id.encode())
        except (InvalidTag, ValueError):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad ciphertext")
        return message({1: self.key_id, 2: "v1", 3: plain})


class _Router(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, stub: YandexStub) -> None:
        self._stub = stub

    def service(self, details: Any) -> Any:
        method = details.method
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._stub.answer(method, request, context))


def _certificate() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM), _pem(key)


def _account() -> dict[str, str]:
    key = rsa.generate_private_key(65537, 2048)
    text = "PLEASE DO NOT REMOVE THIS LINE! Yandex.Cloud SA Key ID <k>\n" + _pem(key).decode()
    return {"id": "key-1", "service_account_id": "account-1", "key_algorithm": "RSA_2048", "private_key": text}


def _pem(key: Any) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
