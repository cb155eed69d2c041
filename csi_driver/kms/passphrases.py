"""The kinds that need no server: the passphrase of the secrets is the key of all volumes, or wraps a key for each.

The second keeps a volume's key in its image's metadata, wrapped (wrapping.py). Its passphrase is that of the call's secrets,
or that of one named Secret of Kubernetes, in a namespace that the entry names or in that of the volume's claim.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from csi_driver.errors import Inconsistent, InvalidRequest, Unauthenticated
from csi_driver.kms.api import FROM_SECRETS, KeyHolder
from csi_driver.kms.format import NotAWrappedKey
from csi_driver.kms.wrapping import WrongPassphrase, new_data_key, unwrap, wrap

PHRASE_KEY = "encryptionPassphrase"

ReadSecret = Callable[[str, str], Mapping[str, str]]
"""Namespace and name to what a Secret of Kubernetes holds. Raises InvalidRequest when it cannot be read, Unfinished."""


class SecretsKms:
    """The passphrase of the secrets is the data key. Kept nowhere."""

    kms_id = FROM_SECRETS
    has_key_per_volume = False
    wraps_with_passphrase = False
    is_in_metadata = False

    def check(self, holder: KeyHolder) -> None:
        """A create needs no passphrase: it makes nothing of it."""

    def new_key(self, holder: KeyHolder) -> str:
        return _given(holder)

    def keep(self, holder: KeyHolder, data_key: str, *, is_new: bool = False) -> str:  # noqa: ARG002 - nothing is kept
        if not hmac.compare_digest(data_key.encode(), _given(holder).encode()):
            raise InvalidRequest(
                f"parameter encryptionKMSID is {self.kms_id!r}: with it the secret {PHRASE_KEY} itself opens the volume, and "
                "what this one is a copy of is opened by a key of its own; allowed is the encryptionKMSID of its source"
            )
        return ""

    def fetch(self, holder: KeyHolder, kept: str) -> str:  # noqa: ARG002 - nothing is kept
        return _given(holder)

    def forget(self, holder: KeyHolder) -> None:
        """Nothing is kept."""


@dataclass(frozen=True)
class NamedSecret:
    """A Secret of Kubernetes. namespace: empty for that of the volume's claim."""

    name: str
    namespace: str = ""


class MetadataKms:
    """A key for each volume, wrapped in its image's metadata. secret: where the passphrase is; None: in the call."""

    has_key_per_volume = True
    is_in_metadata = True

    def __init__(self, kms_id: str, secret: NamedSecret | None, read: ReadSecret) -> None:
        self.kms_id = kms_id
        self.wraps_with_passphrase = secret is None
        self._secret = secret
        self._read = read

    def check(self, holder: KeyHolder) -> None:
        self._passphrase(holder)

    def new_key(self, holder: KeyHolder) -> str:  # noqa: ARG002 - random
        return new_data_key()

    def keep(self, holder: KeyHolder, data_key: str, *, is_new: bool = False) -> str:  # noqa: ARG002 - goes with its image
        return wrap(data_key, self._passphrase(holder), holder.handle)

    def fetch(self, holder: KeyHolder, kept: str) -> str:
        if not kept:
            raise Inconsistent(
                f"the image of volume {holder.handle} has no key in its metadata (rbd.csi.ceph.com/dek), where "
                f"encryptionKMSID {self.kms_id!r} keeps it; nothing was touched"
            )
        try:
            return unwrap(kept, self._passphrase(holder), holder.handle)
        except WrongPassphrase:
            raise Unauthenticated(
                f"the {PHRASE_KEY} of {self._whence()} does not unwrap the key of volume {holder.handle}: "
                "it was wrapped with another one"
            ) from None
        except NotAWrappedKey as odd:
            raise Inconsistent(
                f"the metadata rbd.csi.ceph.com/dek of volume {holder.handle} cannot be read: {odd}; nothing was touched"
            ) from odd

    def forget(self, holder: KeyHolder) -> None:
        """It went with the image."""

    def _whence(self) -> str:
        if self._secret is None:
            return "the secrets"
        return f"the Secret {self._secret.namespace or 'of the claim'}/{self._secret.name}"

    def _passphrase(self, holder: KeyHolder) -> str:
        if self._secret is None:
            return _given(holder)
        namespace = self._secret.namespace or holder.namespace
        if not namespace:
            raise InvalidRequest(
                f"encryptionKMSID {self.kms_id!r} has secretName {self._secret.name!r} without secretNamespace, "
                "and the volume does not tell the namespace of its claim (the provisioner's --extra-create-metadata)"
            )
        found = self._read(namespace, self._secret.name).get(PHRASE_KEY, "")
        if not found:
            raise InvalidRequest(f"the Secret {namespace}/{self._secret.name} has no {PHRASE_KEY}")
        return found


def _given(holder: KeyHolder) -> str:
    if not holder.passphrase:
        raise InvalidRequest(
            f"secrets have no {PHRASE_KEY}, and the volume is encrypted; the secrets that its class names for this call have "
            "to have it"
        )
    return holder.passphrase
