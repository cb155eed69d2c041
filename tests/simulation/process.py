"""One process of the driver without its threads: what goes on behind the answers is done when it is asked for."""

from csi_driver.ceph.api import Clusters
from csi_driver.errors import DriverError
from csi_driver.journal.makers import Makers
from csi_driver.kms.entries import KmsFile
from csi_driver.locks import KeyedLocks
from csi_driver.notices import Notice
from csi_driver.operations.creation import VolumeCreation
from csi_driver.operations.deletion import VolumeDeletion
from csi_driver.operations.expansion import VolumeExpansion
from csi_driver.operations.flattener import Flattener
from csi_driver.operations.group_deletion import GroupDeletion
from csi_driver.operations.groups import GroupCreation
from csi_driver.operations.making import Behind
from csi_driver.operations.purge import Purger
from csi_driver.operations.site import PoolKey, Sites
from csi_driver.operations.snapshot_deletion import SnapshotDeletion
from csi_driver.operations.snapshots import SnapshotCreation, Soon
from csi_driver.operations.volume_keys import VolumeKeys
from csi_driver.orchestrator.kubernetes_secrets import read_secret
from tests.simulation.kms import MemoryKms

INSTANCE = "default"


def _later(key: PoolKey) -> None:
    return None


class _Flattener(Flattener):
    def look_at(self, key: PoolKey) -> None:
        _later(key)


class Process:
    """The operations of one process. identity: what its successor has too."""

    def __init__(self, clusters: Clusters, identity: str, key: PoolKey, kms: MemoryKms | None = None) -> None:
        locks = KeyedLocks()
        sites = Sites(clusters, Makers(identity, INSTANCE), INSTANCE)
        self.notices: list[Notice] = []
        keys = sites.keys = VolumeKeys(kms or KmsFile(None, read_secret))
        sites.tell = self.notices.append
        self._sites = sites
        self._key = key
        self._purger = Purger(sites, locks)
        self._purger.look_at = _later
        self._flattener = _Flattener(sites, _later)
        self.creation = VolumeCreation(sites, locks, Behind(_later, self._flattener, keys))
        self.deletion = VolumeDeletion(sites, locks, _later)
        self.expansion = VolumeExpansion(sites, locks)
        self.snapshot_creation = SnapshotCreation(sites, locks, Soon(_later, _later))
        self.group_creation = GroupCreation(sites, locks, _later)
        self.group_deletion = GroupDeletion(sites, locks, _later)
        self.snapshot_deletion = SnapshotDeletion(sites, locks, _later, self._purger.forget_soon)

    def enter(self) -> None:
        """The pool, as the first call does that makes something there."""
        with self._sites.open(self._key, as_maker=True):
            return

    def sweep(self) -> None:
        """Once through what deletes have left."""
        try:
            self._purger._sweep(self._key)
        except DriverError:
            return  # as the thread does: it comes back later

    def flatten(self) -> None:
        """The flatten queue, as far as it can be worked off now."""
        try:
            self._flattener._sweep(self._key)
        except DriverError:
            return
