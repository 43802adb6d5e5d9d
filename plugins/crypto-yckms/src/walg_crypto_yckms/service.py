"""The key service over gRPC (the public `yandex.cloud.kms.v1`, `iam.v1` and `endpoint` protocols)."""

import threading
import time

from walg_core.errors import AccessDenied, ConfigError, IntegrityError, PermanentError, TransientError, WalgError
from walg_core.observe import log

from walg_crypto_yckms.identity import instance_token, signed_request
from walg_crypto_yckms.protobuf import fields, first, message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CRYPTO = "/yandex.cloud.kms.v1.SymmetricCryptoService/"
_TOKENS = "/yandex.cloud.iam.v1.IamTokenService/Create"
_ENDPOINTS = "/yandex.cloud.endpoint.ApiEndpointService/List"
_AES_256 = 3
_SECONDS = 30.0
_TOKEN_SECONDS = 3600.0
_TRIES = 4


class YandexKms:
    """One key of the service. `endpoint` serves all calls when given; else they are found through `discovery`.

    `account_file` "" means the instance's own service account. `lenient`: an unreadable file means it as well, as in
    the original, with a warning. Thread-safe; channels and tokens are kept for the run.
    """

    def __init__(
        self,
        key_id: str,
        *,
        account_file: str = "",
        endpoint: str = "",
        discovery: str = "",
        ca_file: str = "",
        lenient: bool = False,
    ) -> None:
        self._key_id = key_id
        self._account_file = account_file
        self._endpoint = endpoint
        self._discovery = discovery or "api.cloud.yandex.net:443"
        self._ca_file = ca_file
        self._lenient = lenient
        self._channels: dict[str, Any] = {}
        self._found: dict[str, str] = {}
        self._token: tuple[float, str] | None = None
        self._lock = threading.RLock()

    def generate(self) -> tuple[bytes, bytes]:
        answer = self._crypto("GenerateDataKey", {1: self._key_id, 4: _AES_256})
        plain, wrapped = first(answer, 3), first(answer, 4)
        if len(plain) != 32 or not wrapped:
            raise PermanentError("YC KMS: the service gave no data key of 32 bytes")
        return plain, wrapped

    def unwrap(self, wrapped: bytes) -> bytes:
        """What `wrapped` holds, of any length. Raises IntegrityError when the key did not encrypt it."""
        return first(self._crypto("Decrypt", {1: self._key_id, 3: wrapped}), 3)

    def _crypto(self, method: str, request: "dict[int, bytes | str | int]") -> bytes:
        with self._lock:
            token = self._iam_token()
            address = self._address("kms-crypto")
        return self._call(address, _CRYPTO + method, message(request), token)

    def _iam_token(self) -> str:
        if self._token is None or time.monotonic() >= self._token[0]:
            self._token = time.monotonic() + _TOKEN_SECONDS, self._new_token()
        return self._token[1]

    def _new_token(self) -> str:
        signed = ""
        if self._account_file:
            try:
                signed = signed_request(self._account_file)
            except ConfigError as error:
                if not self._lenient:
                    raise
                log.warning(f"{error}; the instance's own service account is tried")
        if not signed:
            return instance_token()
        answer = self._call(self._address("iam"), _TOKENS, message({2: signed}), "")
        return first(answer, 1).decode()

    def _address(self, service: str) -> str:
        if self._endpoint:
            return self._endpoint
        if not self._found:
            answer = self._call(self._discovery, _ENDPOINTS, b"", "")
            for each in fields(answer).get(1, []):
                self._found[first(each, 1).decode()] = first(each, 2).decode()
        try:
            return self._found[service]
        except KeyError:
            raise PermanentError(f"YC KMS: {self._discovery} knows no address of the service {service}") from None

    def _channel(self, address: str) -> "Any":
        import grpc

        with self._lock:
            if address not in self._channels:
                roots = None
                if self._ca_file:
                    try:
                        with open(self._ca_file, "rb") as file:
                            roots = file.read()
                    except OSError as error:
                        raise ConfigError(f"YC_CA_FILE: cannot read {self._ca_file}: {error.strerror}") from error
                self._channels[address] = grpc.secure_channel(address, grpc.ssl_channel_credentials(roots))
            return self._channels[address]

    def _call(self, address: str, method: str, request: bytes, token: str) -> bytes:
        import grpc

        call = self._channel(address).unary_unary(method)
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        for number in range(_TRIES):
            try:
                return bytes(call(request, timeout=_SECONDS, metadata=metadata))
            except grpc.RpcError as error:
                failure = _failure(method, address, error)
                if not isinstance(failure, TransientError) or number == _TRIES - 1:
                    raise failure from error
                time.sleep(0.2 * 2**number)
        raise AssertionError("unreachable")


def _failure(method: str, address: str, error: "Any") -> WalgError:
    name = method.rpartition("/")[2]
    code = error.code().name
    text = f"YC KMS: {name} at {address}: {code}: {error.details()}"
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return AccessDenied(text, hint="the service account needs the role kms.keys.encrypterDecrypter")
    if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED"):
        return TransientError(text, hint="is Yandex Cloud reachable from here?")
    if code == "INVALID_ARGUMENT" and name == "Decrypt":
        return IntegrityError(text, hint="the object is damaged, or was encrypted under another key of the service")
    return PermanentError(text, hint="does the setting name an active symmetric key?")
