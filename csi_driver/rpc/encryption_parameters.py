"""The parameters of encryption, which a class and a volume context have in common."""

from collections.abc import Mapping

from csi_driver.errors import InvalidRequest

ENCRYPTION_KEYS = ("encrypted", "encryptionKMSID", "encryptionType")
FROM_SECRETS = "default"
"""As the Go driver calls it: the passphrase is the one of the secrets."""


def parse_encrypted(given: Mapping[str, str]) -> bool:
    """Raises InvalidRequest that names the key, the value and what is allowed."""
    encrypted = given.get("encrypted", "")
    if encrypted not in ("", "true", "false"):
        raise InvalidRequest(f"parameter encrypted is {encrypted!r}; allowed are true and false")
    if (kind := given.get("encryptionType", "")) not in ("", "block"):
        raise InvalidRequest(f"parameter encryptionType is {kind!r}; allowed is block: LUKS on the device")
    if (kms := given.get("encryptionKMSID", "")) not in ("", FROM_SECRETS):
        raise InvalidRequest(
            f"parameter encryptionKMSID is {kms!r}; allowed is {FROM_SECRETS}: the passphrase is the secret "
            "encryptionPassphrase"
        )
    return encrypted == "true"
