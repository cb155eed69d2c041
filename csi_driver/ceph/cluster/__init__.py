"""Connections to clusters, pools and objects: the only `import rados`.

One connection per (cluster entry, user, key), shared by all threads; one that was blocklisted or ran into a timeout is
replaced, since the old one's late writes can then be fenced by its address; idle ones are closed. Keys stay in memory.
Every operation is bounded by librados' own timeouts, but for those that make an image (docs/decisions/0034).
"""

from csi_driver.ceph.cluster.clusters import RadosClusters
from csi_driver.ceph.cluster.handle import Timeouts

__all__ = ["RadosClusters", "Timeouts"]
