"""The driver's parts as the commands for operators have them."""

from pathlib import Path

from csi_driver.addresses import Credentials
from csi_driver.ceph.cluster import RadosClusters, Timeouts
from csi_driver.config import ClustersFile
from csi_driver.ids import Handle
from csi_driver.journal.makers import Makers
from csi_driver.kms.entries import KmsFile
from csi_driver.locks import KeyedLocks
from csi_driver.operations.audit.auditor import Auditor
from csi_driver.operations.fencing import NodeFencing
from csi_driver.operations.listing import Listing
from csi_driver.operations.nodes import OwnPools, RegisteredNodes
from csi_driver.operations.publication import VolumePublication
from csi_driver.operations.rebuild.rebuilder import Rebuilder
from csi_driver.operations.rewrapping import KeyRewrapping
from csi_driver.operations.site import PoolKey, Sites
from csi_driver.operations.sparsifying import sparsify
from csi_driver.operations.undeletion import VolumeUndeletion
from csi_driver.operations.volume_keys import VolumeKeys
from csi_driver.orchestrator.kubernetes_secrets import read_secret


class Operator:
    """The parts of `rbd-csi volume`, `node`, `audit`, `repair` and `rebuild`: short-lived, and no maker, so that no other
    process takes it for its predecessor.
    """

    def __init__(self, clusters_file: ClustersFile, instance: str, kms_file: Path | None = None) -> None:
        """kms_file: where the command ends volumes, or looks whether they have their keys. Raises ConfigError."""
        self._clusters_file = clusters_file
        self._clusters = RadosClusters(clusters_file.entries, Timeouts())
        sites = Sites(self._clusters, Makers("operator", instance), instance)
        if kms_file:
            sites.keys = VolumeKeys(KmsFile(kms_file, read_secret))
        self.undeletion = VolumeUndeletion(sites)
        self.auditor = Auditor(sites)
        self.rebuilder = Rebuilder(sites)
        self._sites = sites
        self.own_pools = OwnPools(sites, clusters_file.own_ids)
        publication = VolumePublication(sites, KeyedLocks(), RegisteredNodes(self.own_pools), self.own_pools)
        listing = Listing(sites, clusters_file.own_ids)
        self.fencing = NodeFencing(sites, listing, lambda volume, node: publication.unpublish(volume, node, None))
        self.close = self._clusters.close

    def rewrapping(self, kms_file: Path) -> KeyRewrapping:
        """Raises ConfigError."""
        return KeyRewrapping(self._sites, KmsFile(kms_file, read_secret))

    def sparsify(self, handle: Handle) -> None:
        sparsify(self._sites, handle)

    def cluster_ids(self) -> tuple[str, ...]:
        return tuple(self._clusters_file.entries())

    def lacks_credentials(self) -> tuple[str, ...]:
        """Ids of the clusters for which there are none of the driver's own."""
        return tuple(one.cluster_id for one in self._clusters_file.entries().values() if one.credentials is None)

    def credentials_of(self, cluster_id: str) -> Credentials | None:
        """The cluster's own. Raises InvalidRequest when there is no such cluster."""
        return self._clusters.entry(cluster_id).credentials

    def pools(self, cluster_id: str) -> list[PoolKey]:
        with self._clusters.connect(cluster_id, None) as cluster:
            return [PoolKey(cluster_id, None, pool) for pool in cluster.pool_names()]
