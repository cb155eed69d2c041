"""Data keys wrapped with a passphrase, in the Go driver's format; knows nothing of volumes but their handles.

The data key is under AES-256-GCM, with a key that scrypt derives from the passphrase and the volume's handle. So a wrapped
key that is moved to another volume's image does not open there. The text of it is format.py's.
"""

import base64
import hashlib
import os
import threading

from csi_driver.kms.format import NONCE_BYTES, NotAWrappedKey, parse, render

_N, _R, _P, _KEY_BYTES = 32768, 8, 1, 32
_MAX_BYTES = 64 << 20
"""OpenSSL's default bound is just below the 32 MiB that these numbers need."""
_DATA_KEY_BYTES = 20

_derivations = threading.BoundedSemaphore(2)
"""Each takes 32 MiB for as long as it lasts."""


class WrongPassphrase(Exception):
    """The key was wrapped with another passphrase, or for another handle; or its text was changed."""


def new_data_key() -> str:
    return base64.urlsafe_b64encode(os.urandom(_DATA_KEY_BYTES)).decode()


def wrap(data_key: str, passphrase: str, handle: str) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - only with encrypted volumes

    nonce = os.urandom(NONCE_BYTES)
    sealed = AESGCM(_derive(passphrase, handle)).encrypt(nonce, data_key.encode(), None)
    return render(sealed, nonce)


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


def _derive(passphrase: str, handle: str) -> bytes:
    with _derivations:
        return hashlib.scrypt(
            passphrase.encode(), salt=handle.encode(), n=_N, r=_R, p=_P, maxmem=_MAX_BYTES, dklen=_KEY_BYTES
        )
