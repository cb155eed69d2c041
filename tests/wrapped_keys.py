"""Wrapped data keys by the format's own words, and with nothing of the driver's: as the Go driver makes and reads them."""

import base64
import hashlib
import json

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DEK, STATE = "rbd.csi.ceph.com/dek", "rbd.csi.ceph.com/encrypted"


def _cipher(passphrase: str, handle: str) -> AESGCM:
    key = hashlib.scrypt(passphrase.encode(), salt=handle.encode(), n=1 << 15, r=8, p=1, maxmem=1 << 27, dklen=32)
    return AESGCM(key)


def wrapped(data_key: str, passphrase: str, handle: str, nonce: bytes = bytes(12)) -> str:
    sealed = _cipher(passphrase, handle).encrypt(nonce, data_key.encode(), None)
    return json.dumps({"dek": base64.b64encode(sealed).decode(), "nonce": base64.b64encode(nonce).decode()})


def unwrapped(kept: str, passphrase: str, handle: str) -> str:
    """Raises InvalidTag for the key of another handle."""
    values = {name: base64.b64decode(value) for name, value in json.loads(kept).items()}
    return _cipher(passphrase, handle).decrypt(values["nonce"], values["dek"], None).decode()
