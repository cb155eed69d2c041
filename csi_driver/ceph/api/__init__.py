"""All that the driver wants from Ceph: read this first. The real parts are cluster.py (librados) and images.py (librbd).

Errors of the whole seam, besides those named at each method:
  ClusterTimeout      no answer in time; a write may be done, or be done later
  ClusterUnavailable  no connection, or this client is on the blocklist
  Unauthenticated     user or key not accepted          AccessDenied  the user lacks a capability
  NoSpace             pool full or at its quota
Strings are text. Values that a `Write` compares must be ASCII: the bindings find others different from themselves.
"""

from csi_driver.ceph.api.cluster import DAY_S, Cluster, Clusters, Pool
from csi_driver.ceph.api.errors import (
    CannotCompare,
    CompareFailed,
    FlattenStopped,
    ImageBusy,
    ImageExists,
    ImageHasSnapshots,
    ImageKept,
    ImageMissing,
    ObjectExists,
    ObjectMissing,
)
from csi_driver.ceph.api.images import Ancestry, Cloned, CloneSource, Groups, Images
from csi_driver.ceph.api.objects import Create, Leases, Objects, Write
from csi_driver.ceph.api.values import (
    NO_METADATA,
    Child,
    Extent,
    Extents,
    HealthCheck,
    ImageInfo,
    MetadataWrite,
    ParentSnap,
    PoolUsage,
    Snap,
    SnapKind,
    TrashEntry,
    Watcher,
)

__all__ = [
    "DAY_S",
    "NO_METADATA",
    "Ancestry",
    "CannotCompare",
    "Child",
    "CloneSource",
    "Cloned",
    "Cluster",
    "Clusters",
    "CompareFailed",
    "Create",
    "Extent",
    "Extents",
    "FlattenStopped",
    "Groups",
    "HealthCheck",
    "ImageBusy",
    "ImageExists",
    "ImageHasSnapshots",
    "ImageInfo",
    "ImageKept",
    "ImageMissing",
    "Images",
    "Leases",
    "MetadataWrite",
    "ObjectExists",
    "ObjectMissing",
    "Objects",
    "ParentSnap",
    "Pool",
    "PoolUsage",
    "Snap",
    "SnapKind",
    "TrashEntry",
    "Watcher",
    "Write",
]
