"""What both halves of a driver work with."""

from dataclasses import dataclass

from csi_driver.ceph.cluster import RadosClusters
from csi_driver.config import ClustersFile, ServeConfig
from csi_driver.locks import KeyedLocks
from csi_driver.operations.readiness import Readiness
from csi_driver.operations.site import Sites
from csi_driver.operations.volume_keys import VolumeKeys
from csi_driver.rpc.gate import Gates


@dataclass(frozen=True)
class SharedParts:
    """health_sites: on connections that are soon tired: that a cluster does not answer is what health has to say in time."""

    config: ServeConfig
    clusters_file: ClustersFile
    gates: Gates
    locks: KeyedLocks
    clusters: RadosClusters
    sites: Sites
    health_sites: Sites
    readiness: Readiness
    keys: VolumeKeys
