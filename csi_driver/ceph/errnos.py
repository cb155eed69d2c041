"""What an errno of librados or librbd means to the driver: one table for both, since both carry `errno`.

Errnos that mean something only for one call (no such image, object exists) are handled at that call; the rest is here.
"""

import errno
import os

from csi_driver.errors import (
    AccessDenied,
    ClusterTimeout,
    ClusterUnavailable,
    DriverError,
    NoSpace,
)

_MEANING: dict[int, tuple[type[DriverError], str]] = {
    errno.ETIMEDOUT: (ClusterTimeout, "the cluster did not answer in time"),
    errno.ESHUTDOWN: (ClusterUnavailable, "this client was put on the cluster's blocklist; it connects anew"),
    errno.EROFS: (ClusterUnavailable, "this client lost the image's lock"),
    errno.ENOTCONN: (ClusterUnavailable, "the connection is closed"),
    errno.ENOSPC: (NoSpace, "the pool is full"),
    errno.EDQUOT: (NoSpace, "the pool is at its quota"),
    errno.EPERM: (AccessDenied, "the user lacks a capability for this"),
    errno.EACCES: (AccessDenied, "the user lacks a capability for this"),
}

RECONNECT = frozenset({errno.ETIMEDOUT, errno.ESHUTDOWN, errno.ENOTCONN})
"""After these the connection is given up: a blocklisted one is useless, and after a timeout a write may still arrive."""


def meaning_of(error: Exception, doing: str) -> DriverError:
    """The driver's error for one of librados or librbd. `doing` names the operation and its object."""
    number = getattr(error, "errno", None) or 0
    kind, reason = _MEANING.get(
        number, (ClusterUnavailable, f"{errno.errorcode.get(number, number)} ({os.strerror(number)})")
    )
    return kind(f"{doing}: {reason}")
