"""Who calls: a service account's signed request for a token, or the instance's own token (metadata service)."""

import base64
import os
import time

from walg_core.errors import ConfigError, TransientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_AUDIENCE = "https://iam.api.cloud.yandex.net/iam/v1/tokens"
_METADATA = "169.254.169.254"


def signed_request(account_file: str) -> str:
    """The JSON web token (PS256) that the service changes into an IAM token. Raises ConfigError."""
    import json

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    try:
        with open(account_file, "rb") as file:
            account = json.load(file)
        # A line that warns people may stand before the key.
        text = account["private_key"]
        key = serialization.load_pem_private_key(text[text.index("-----BEGIN") :].encode(), None)
        key_id, issuer = account["id"], account["service_account_id"]
    except OSError as error:
        raise ConfigError(f"service account key: cannot read {account_file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"service account key: {account_file} is not an authorized key",
            hint="`yc iam key create --service-account-name NAME --output FILE` makes one",
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigError(f"service account key: {account_file} holds no RSA key")
    now = int(time.time())
    claims = {"iss": issuer, "aud": _AUDIENCE, "iat": now, "exp": now + 3600}
    signed = f"{_part({'typ': 'JWT', 'alg': 'PS256', 'kid': key_id})}.{_part(claims)}"
    signature = key.sign(signed.encode(), padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    return f"{signed}.{_base64(signature)}"


def _part(value: "dict[str, Any]") -> str:
    import json

    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def instance_token() -> str:
    """The token of the virtual machine's service account; `YC_METADATA_ADDR` names another metadata service."""
    import json
    from urllib import request

    address = os.environ.get("YC_METADATA_ADDR") or _METADATA
    url = f"http://{address}/computeMetadata/v1/instance/service-accounts/default/token"
    opener = request.build_opener(request.ProxyHandler({}))
    try:
        with opener.open(request.Request(url, headers={"Metadata-Flavor": "Google"}), timeout=10) as answer:
            return str(json.loads(answer.read(1 << 20))["access_token"])
    except (OSError, ValueError, KeyError) as error:
        raise TransientError(
            f"YC KMS: no token from the instance's metadata service at {address}: {error}",
            hint="outside of Yandex Cloud set YC_SERVICE_ACCOUNT_KEY_FILE",
        ) from error
