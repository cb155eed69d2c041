"""A server that keeps keys, in memory: it outlives the processes of the driver, and the cluster knows nothing of it."""

from csi_driver.errors import Inconsistent, InvalidRequest, KeyMissing
from csi_driver.kms.api import KeyHolder, Kms


class MemoryKms:
    """The only entry (kms.api.KmsEntries) and what it keeps, by handle."""

    kms_id = "server"
    has_key_per_volume = True
    wraps_with_passphrase = False
    is_in_metadata = False

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self._made = 0

    def find(self, kms_id: str) -> Kms:
        if kms_id != self.kms_id:
            raise InvalidRequest(f"there is no {kms_id!r}")
        return self

    def check(self, holder: KeyHolder) -> None:
        """It always can."""

    def new_key(self, holder: KeyHolder) -> str:
        self._made += 1
        return f"key {self._made}"

    def keep(self, holder: KeyHolder, data_key: str, *, is_new: bool = False) -> str:
        if self.keys.setdefault(holder.handle, data_key) != data_key and not is_new:
            raise Inconsistent(f"{holder.handle} has {self.keys[holder.handle]}, and not {data_key}")
        return ""

    def fetch(self, holder: KeyHolder, kept: str) -> str:
        if holder.handle not in self.keys:
            raise KeyMissing(holder.handle)
        return self.keys[holder.handle]

    def forget(self, holder: KeyHolder) -> None:
        self.keys.pop(holder.handle, None)
