"""A handle of librados, connected."""

import errno
from dataclasses import dataclass

import rados

from csi_driver.addresses import ClusterEntry, Credentials
from csi_driver.ceph.clone_gate import CloneGate
from csi_driver.errors import ClusterUnavailable, Unauthenticated
from csi_driver.tracing import step

WITHOUT_END = 0
"""As librados has it for an operation that is not given up."""


@dataclass(frozen=True)
class Timeouts:
    """Whole seconds after which librados gives up: on an operation of an OSD or monitor, and on connecting."""

    operation_s: int = 15
    connect_s: int = 5


def connected(entry: ClusterEntry, credentials: Credentials, timeouts: Timeouts, *, osd_s: int) -> rados.Rados:
    """osd_s: after which an operation of an OSD is given up. Raises Unauthenticated, ClusterUnavailable."""
    handle = rados.Rados(
        rados_id=credentials.user,
        conf={
            "mon_host": ",".join(entry.monitors),
            "key": credentials.key,
            "rados_osd_op_timeout": str(osd_s),
            "rados_mon_op_timeout": str(timeouts.operation_s),
            "client_mount_timeout": str(timeouts.connect_s),
            # librados prints a key that it cannot parse, and much else, to stderr
            "log_to_stderr": "false",
            "err_to_stderr": "false",
            "log_file": "",
            "rbd_default_clone_format": CloneGate.INITIAL,
        },
    )
    who = f"cluster {entry.cluster_id!r} as user {credentials.user!r}"
    try:
        with step("cluster.connect", who):
            handle.connect()
    except rados.Error as error:
        handle.shutdown()
        if error.errno in (errno.EACCES, errno.EPERM):
            raise Unauthenticated(f"{who}: user or key not accepted (secrets userID, userKey)") from error
        if error.errno in (errno.EINVAL, errno.ENOENT):
            raise ClusterUnavailable(
                f"{who}: a monitor's address cannot be read or resolved: {', '.join(entry.monitors)}"
            ) from error
        raise ClusterUnavailable(
            f"{who}: no connection within {timeouts.connect_s} s to {', '.join(entry.monitors)}"
        ) from error
    return handle
