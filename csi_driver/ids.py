"""Volume, snapshot and group handles: text form and parser.

`<version:4 hex>-<length:4 hex>-<clusterID>-<poolID:16 hex>-<uuid>`, lower-case hex, version 0001, length the bytes of
clusterID. A handle does not tell a volume from a snapshot: the object that exists in Ceph does. The form is that of
existing Ceph CSI deployments, whose handles therefore parse here.
"""

import re
from dataclasses import dataclass
from typing import Self

MAX_CLUSTER_ID_BYTES = 64
"""64 bytes are fixed, and a CSI identifier has at most 128 (CSI spec, Size Limits)."""

MAX_POOL_ID = (1 << 63) - 1
"""Pool ids are signed 64-bit numbers in Ceph."""

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_TAIL = re.compile(rf"-([0-9a-f]{{16}})-({_UUID})")
_HEAD = re.compile(r"0001-([0-9a-f]{4})-")
_UUID_LENGTH = 36


def uuid_at_end(name: str) -> str:
    """Of a handle, or of the name that an image, a snap or a group of a driver has; of another name it is no uuid."""
    return name[-_UUID_LENGTH:]


@dataclass(frozen=True)
class Handle:
    """Where an object is: the cluster entry, the pool of its image by id, and its uuid."""

    cluster_id: str
    pool_id: int
    uuid: str

    def __str__(self) -> str:
        return f"0001-{len(self.cluster_id.encode()):04x}-{self.cluster_id}-{self.pool_id:016x}-{self.uuid}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The handle, or None: what does not parse is the id of nothing (journal.md, Handles)."""
        head = _HEAD.match(text)
        if not head:
            return None
        raw, length = text[head.end() :].encode(errors="surrogatepass"), int(head[1], 16)
        if not 0 < length <= MAX_CLUSTER_ID_BYTES:
            return None
        try:
            cluster_id, rest = raw[:length].decode(), raw[length:].decode()
        except UnicodeDecodeError:
            return None
        tail = _TAIL.fullmatch(rest)
        if not tail or int(tail[1], 16) > MAX_POOL_ID:
            return None
        return cls(cluster_id, int(tail[1], 16), tail[2])
