"""Key management as the operations see it: entries by the `encryptionKMSID` of a class, each of one kind.

A data key is the text that opens a volume's LUKS header. It is the same for a volume and its copies, whose headers are
clones of each other; how it is kept differs from volume to volume, since the handle is part of that.
"""

from dataclasses import dataclass, field
from typing import Protocol

from csi_driver.errors import InvalidRequest

FROM_SECRETS = "default"
"""The entry that needs no file, as the Go driver calls it: the passphrase of the secrets is the data key of all volumes."""


@dataclass(frozen=True)
class KeyHolder:
    """A volume whose data key it is, and what this call brought to get at it.

    handle: as it was when the key was kept · passphrase: `encryptionPassphrase` of the secrets, empty where they have none ·
    namespace: of the volume's claim, empty where nobody tells
    """

    handle: str
    passphrase: str = field(default="", repr=False)
    namespace: str = ""


class KindNotOffered(InvalidRequest):
    """The entry is there, and of a kind that this driver does not have."""


class Kms(Protocol):
    """One entry."""

    kms_id: str
    has_key_per_volume: bool
    """Else all volumes have the passphrase of the secrets, and nothing is kept anywhere."""

    wraps_with_passphrase: bool
    """Keeps keys wrapped with a passphrase that the call brings: another one may take its place."""

    is_in_metadata: bool
    """Whether the image's metadata hold what is kept of a volume's own key."""

    def check(self, holder: KeyHolder) -> None:
        """Whether a key can be kept for this holder, who has no handle yet. Raises what `keep` would; keeps nothing."""

    def new_key(self, holder: KeyHolder) -> str:
        """A data key that no other volume has, where there is one for each. It is not kept yet."""

    def keep(self, holder: KeyHolder, data_key: str, *, is_new: bool = False) -> str:
        """What the image's metadata have to hold for it, as text; empty for nothing. Fine when it is kept already.

        is_new: nothing is under this key yet. Then one that a server keeps for the holder stays in its place: a maker that
        was overtaken, and whose write comes late, must not take a volume's key away.

        Raises InvalidRequest when the secrets lack what it needs, or this entry cannot keep that key; AccessDenied,
        Inconsistent when another key is kept for the holder, Unfinished.
        """

    def fetch(self, holder: KeyHolder, kept: str) -> str:
        """The data key. `kept`: what the image's metadata hold.

        Raises InvalidRequest when the secrets lack what it needs, Unauthenticated for a wrong passphrase, Inconsistent for
        a key that is gone (KeyMissing) or damaged, AccessDenied, Unfinished.
        """

    def forget(self, holder: KeyHolder) -> None:
        """Remove what is kept outside of the image's metadata. Fine when there is nothing. Only once the image is gone.

        Raises as `fetch`, but for a missing key.
        """


class KmsEntries(Protocol):
    """All entries."""

    def find(self, kms_id: str) -> Kms:
        """Raises InvalidRequest that names the id and those that are known, KindNotOffered among them."""
