"""The parameters of encryption, which a class and a volume context have in common."""

from collections.abc import Mapping

from csi_driver.errors import InvalidRequest
from csi_driver.host.api import LuksForm
from csi_driver.kms.api import FROM_SECRETS
from csi_driver.rpc.fields import check_text

ENCRYPTION_KEYS = ("encrypted", "encryptionKMSID", "encryptionType", "encryptionCipher", "encryptionSectorSize")
CIPHERS = ("aes-xts-plain64", "serpent-xts-plain64", "twofish-xts-plain64", "aes-cbc-essiv:sha256")
SECTOR_SIZES = ("512", "1024", "2048", "4096")
PHRASE_KEY = "encryptionPassphrase"
"""Of the secrets."""


def parse_encryption(given: Mapping[str, str]) -> str:
    """The id of the KMS entry; empty where the volume is not encrypted. Which entries there are, nobody knows here.

    Raises InvalidRequest that names the key, the value and what is allowed.
    """
    encrypted = given.get("encrypted", "")
    if encrypted not in ("", "true", "false"):
        raise InvalidRequest(f"parameter encrypted is {encrypted!r}; allowed are true and false")
    if (kind := given.get("encryptionType", "")) not in ("", "block"):
        raise InvalidRequest(f"parameter encryptionType is {kind!r}; allowed is block: LUKS on the device")
    parse_luks_form(given)
    kms_id = check_text("parameter encryptionKMSID", given.get("encryptionKMSID", "")) or FROM_SECRETS
    return kms_id if encrypted == "true" else ""


def parse_luks_form(given: Mapping[str, str]) -> LuksForm:
    """Of a volume's first stage. Raises InvalidRequest."""
    cipher, sector = given.get("encryptionCipher", ""), given.get("encryptionSectorSize", "")
    if cipher not in ("", *CIPHERS):
        raise InvalidRequest(f"parameter encryptionCipher is {cipher!r}; allowed are {', '.join(CIPHERS)}")
    if sector not in ("", *SECTOR_SIZES):
        raise InvalidRequest(
            f"parameter encryptionSectorSize is {sector!r}; allowed are {', '.join(SECTOR_SIZES)} bytes"
        )
    return LuksForm(cipher, int(sector or 0))
