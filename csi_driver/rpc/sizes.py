"""Which size an image gets for a requested range: a pure rule.

Rounded up to whole MiB where the limit allows it, else to whole sectors of 4096 bytes: "limit equals required" is so
honoured to the byte (CSI: CapacityRange).
"""

from csi_driver.errors import InvalidRequest, OutOfRange
from csi_driver.model import CapacityRange

MIB = 1 << 20
SECTOR = 4096
DEFAULT_BYTES = 1 << 30
MIN_BYTES = MIB

DEFAULT_OBJECT_BYTES = 4 * MIB

MAX_OBJECTS = 256_000_000
"""librbd's object map holds no more (Ceph: cls_rbd, object map), so that this bounds an image of any features."""


def largest_image(object_size_bytes: int) -> int:
    """Bytes."""
    return MAX_OBJECTS * object_size_bytes


SMALLEST_XFS_BYTES = 300 * MIB
"""mkfs.xfs makes no smaller file system."""


def choose_size(
    capacity: CapacityRange, *, object_size_bytes: int = DEFAULT_OBJECT_BYTES, smallest_bytes: int = MIN_BYTES
) -> int:
    """Bytes. smallest_bytes: that the content needs, whatever is asked for. Raises OutOfRange when no size fits."""
    largest = largest_image(object_size_bytes)
    required, limit = capacity.required_bytes, capacity.limit_bytes
    if required > largest:
        raise OutOfRange(f"capacity_range.required_bytes is {required}; an image has at most {largest} bytes")
    if not required:
        required = min(DEFAULT_BYTES, limit) if limit else DEFAULT_BYTES
        required = max(required // SECTOR * SECTOR, smallest_bytes)
    for unit in (MIB, SECTOR):
        size = max(-(-required // unit) * unit, smallest_bytes)
        if not limit or size <= limit:
            return size
    raise OutOfRange(
        f"capacity_range: no size fits {capacity.required_bytes} (required_bytes) to {limit} (limit_bytes); "
        f"sizes are multiples of {SECTOR} bytes, and at least {smallest_bytes}"
    )


def check_range(required_bytes: int, limit_bytes: int) -> CapacityRange:
    """Raises InvalidRequest, OutOfRange."""
    for field, value in (("required_bytes", required_bytes), ("limit_bytes", limit_bytes)):
        if value < 0:
            raise InvalidRequest(f"capacity_range.{field} is {value}; it must not be negative")
    if limit_bytes and limit_bytes < required_bytes:
        raise OutOfRange(f"capacity_range.limit_bytes {limit_bytes} is below required_bytes {required_bytes}")
    return CapacityRange(required_bytes, limit_bytes)
