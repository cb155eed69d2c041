"""The parameters of encryption, which a class and a volume context have in common."""

from collections.abc import Mapping

from csi_driver.errors import InvalidRequest
from csi_driver.kms.api import FROM_SECRETS
from csi_driver.rpc.fields import check_text

ENCRYPTION_KEYS = ("encrypted", "encryptionKMSID", "encryptionType")
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
    kms_id = check_text("parameter encryptionKMSID", given.get("encryptionKMSID", "")) or FROM_SECRETS
    return kms_id if encrypted == "true" else ""
