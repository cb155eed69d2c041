"""Data keys wrapped with a passphrase, in the Go driver's format; knows nothing of volumes but their handles.

The text is JSON, {"dek", "nonce"}, both in base64: the data key under AES-256-GCM, with a key that scrypt derives from the
passphrase and the volume's handle. So a wrapped key that is moved to another volume's image does not open there.
"""

import base64
import hashlib
import json
import os
import threading

_N, _R, _P, _KEY_BYTES = 32768, 8, 1, 32
_MAX_BYTES = 64 << 20
"""OpenSSL's default bound is just below the 32 MiB that these numbers need."""
_NONCE_BYTES = 12
_DATA_KEY_BYTES = 20

_derivations = threading.BoundedSemaphore(2)
"""Each takes 32 MiB for as long as it lasts."""


class WrongPassphrase(Exception):
    """The key was wrapped with another passphrase, or for another handle; or its text was changed."""


class NotAWrappedKey(Exception):
    """The text does not have the format; the message says in what."""


def new_data_key() -> str:
    return base64.urlsafe_b64encode(os.urandom(_DATA_KEY_BYTES)).decode()


def wrap(data_key: str, passphrase: str, handle: str) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - only with encrypted volumes

    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(_derive(passphrase, handle)).encrypt(nonce, data_key.encode(), None)
    values = {"dek": base64.b64encode(sealed).decode(), "nonce": base64.b64encode(nonce).decode()}
    return json.dumps(values, separators=(",", ":"))


def unwrap(kept: str, passphrase: str, handle: str) -> str:
    """Raises WrongPassphrase, NotAWrappedKey."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    sealed, nonce = parse(kept)
    try:
        return AESGCM(_derive(passphrase, handle)).decrypt(nonce, sealed, None).decode()
    except InvalidTag as error:
        raise WrongPassphrase from error
    except UnicodeDecodeError as error:
        raise NotAWrappedKey("the key in it is not text") from error


def parse(kept: str) -> tuple[bytes, bytes]:
    """The sealed key and its nonce. Raises NotAWrappedKey."""
    try:
        values = json.loads(kept)
        sealed, nonce = (base64.b64decode(values[name], validate=True) for name in ("dek", "nonce"))
    except (ValueError, TypeError, KeyError) as odd:
        raise NotAWrappedKey('it is not JSON with "dek" and "nonce" in base64') from odd
    if len(nonce) != _NONCE_BYTES:
        raise NotAWrappedKey(f"its nonce has {len(nonce)} bytes, not {_NONCE_BYTES}")
    return sealed, nonce


def _derive(passphrase: str, handle: str) -> bytes:
    with _derivations:
        return hashlib.scrypt(
            passphrase.encode(), salt=handle.encode(), n=_N, r=_R, p=_P, maxmem=_MAX_BYTES, dklen=_KEY_BYTES
        )
