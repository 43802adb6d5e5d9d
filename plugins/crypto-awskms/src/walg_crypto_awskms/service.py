"""The key service: Encrypt and Decrypt of AWS KMS through botocore, which is imported at the first call."""

import os
import threading

from walg_core.errors import (
    AccessDenied,
    ConfigError,
    IntegrityError,
    PermanentError,
    Throttled,
    TransientError,
    WalgError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DENIED = ("AccessDenied", "UnrecognizedClient", "InvalidSignature", "SignatureDoesNotMatch", "InvalidClientTokenId")
_DAMAGED = ("InvalidCiphertext", "IncorrectKey", "InvalidKeyUsage")
_LATER = ("KMSInternal", "DependencyTimeout", "KeyUnavailable", "InternalFailure", "ServiceUnavailable")


class AwsKms:
    """Keys of one region. `region` "" takes what AWS programs take; `endpoint` "" the region's own address.

    Thread-safe: the client is made once.
    """

    def __init__(self, key_id: str, *, region: str = "", endpoint: str = "") -> None:
        self._key_id = key_id
        self._region = region.strip()
        self._endpoint = endpoint
        self._client: Any = None
        self._lock = threading.Lock()

    def generate(self) -> tuple[bytes, bytes]:
        plain = os.urandom(32)
        answer = self._call("Can't encrypt symmetric key", "encrypt", KeyId=self._key_id, Plaintext=plain)
        return plain, answer["CiphertextBlob"]

    def unwrap(self, wrapped: bytes) -> bytes:
        answer = self._call("Can't decrypt symmetric key", "decrypt", CiphertextBlob=wrapped)
        plain: bytes = answer["Plaintext"]
        return plain

    def _call(self, what: str, operation: str, **arguments: "Any") -> "Any":
        from botocore import exceptions

        try:
            return getattr(self._service(), operation)(**arguments)
        except exceptions.ClientError as error:
            raise _answered(what, error) from error
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.ProfileNotFound) as error:
            raise ConfigError(
                f"{what}: {error}", hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or a role"
            ) from error
        except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
            raise TransientError(f"{what}: {error}", hint="is AWS KMS reachable from here?") from error
        except exceptions.BotoCoreError as error:
            raise ConfigError(f"{what}: {error}") from error

    def _service(self) -> "Any":
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> "Any":
        from botocore.config import Config
        from botocore.session import Session

        session = Session()
        region = self._region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
        if not region:
            raise ConfigError(
                "MissingRegion: could not find region configuration", hint="set WALG_CSE_KMS_REGION or AWS_REGION"
            )
        # AWS_ENDPOINT_URL is how an S3 look-alike is configured; it must not draw the calls of KMS to itself.
        options = Config(
            retries={"max_attempts": 5, "mode": "standard"},
            connect_timeout=10,
            read_timeout=30,
            ignore_configured_endpoint_urls=True,
        )
        return session.create_client(
            "kms",
            region_name=region,
            endpoint_url=self._endpoint or None,
            config=options,
            aws_access_key_id=os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_ACCESS_KEY"),
            aws_secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY") or os.environ.get("AWS_SECRET_KEY"),
            aws_session_token=os.environ.get("AWS_SESSION_TOKEN"),
        )


def _answered(what: str, error: "Any") -> WalgError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    text = f"{what}: {error}"
    if code.startswith(_DENIED) or code == "AccessDeniedException":
        return AccessDenied(text, hint="kms:Encrypt is needed to back up, kms:Decrypt to restore")
    if code.startswith(_DAMAGED):
        return IntegrityError(text, hint="the object is damaged, or was not encrypted by AWS KMS in this region")
    if "Throttling" in code or "LimitExceeded" in code:
        return Throttled(text)
    if code.startswith(_LATER):
        return TransientError(text)
    return PermanentError(text, hint="does WALG_CSE_KMS_ID name an enabled key of this region?")
