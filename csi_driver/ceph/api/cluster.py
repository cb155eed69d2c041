"""Pools, connections to clusters, and which clusters there are."""

from contextlib import AbstractContextManager
from typing import Protocol

from csi_driver.addresses import ClusterEntry, Credentials, ImageAddress
from csi_driver.ceph.api.images import Ancestry, Groups, Images
from csi_driver.ceph.api.objects import Leases, Objects
from csi_driver.ceph.api.values import HealthCheck, PoolUsage


class Pool(Protocol):
    """One pool in one rados namespace, open for one operation."""

    @property
    def name(self) -> str: ...
    @property
    def pool_id(self) -> int: ...
    @property
    def namespace(self) -> str: ...
    @property
    def objects(self) -> Objects: ...
    @property
    def leases(self) -> Leases: ...
    @property
    def images(self) -> Images: ...
    @property
    def ancestry(self) -> Ancestry: ...
    @property
    def groups(self) -> Groups: ...
    @property
    def cluster(self) -> "Cluster": ...


DAY_S = 24 * 3600


class Cluster(Protocol):
    """One connection to a cluster as one user."""

    @property
    def entry(self) -> ClusterEntry: ...
    @property
    def address(self) -> str:
        """This connection's own address, as the blocklist wants it."""

    @property
    def making_address(self) -> str:
        """Where its images are made from: another, fenced with the first. Raises ClusterUnavailable, Unauthenticated."""

    @property
    def user(self) -> str:
        """The Ceph user of this connection."""

    def pool(self, pool: str | int) -> AbstractContextManager[Pool]:
        """By name or id, in the entry's namespace. Raises PoolMissing."""

    def pool_names(self) -> list[str]:
        """All pools, whether this user may open them or not."""

    def pool_ids(self) -> dict[str, int]:
        """All pools by name, whether this user may open them or not."""

    def rbd_pools(self) -> tuple[int, ...]:
        """Ids of the pools that may hold what is RBD's, in order: not those marked for other applications alone."""

    def health(self) -> tuple[HealthCheck, ...]:
        """The checks that fail just now; none in a healthy cluster."""

    def blocklisted(self) -> frozenset[str]:
        """The addresses of all clients that are cut off, as `Watcher` has them."""

    def usage(self) -> dict[str, PoolUsage]:
        """Of all pools by name, as the monitors know it: some seconds old."""

    def blocklist(self, address: str, *, seconds: int = DAY_S) -> None:
        """Cuts another client off for so long and returns when this connection has the map that says so."""

    def clones_format_2(self) -> bool:
        """Whether the cluster lets only clients in that know clone format 2 (`osd set-require-min-compat-client`)."""

    @property
    def is_given_up(self) -> bool:
        """Whether later calls get another connection: on this one nothing more is begun."""

    def replace(self) -> None:
        """Gives this connection up: later calls get a new one with another address."""

    def image_address(self, pool: Pool, image: str) -> ImageAddress: ...


class Clusters(Protocol):
    """The clusters that the driver knows."""

    def entry(self, cluster_id: str) -> ClusterEntry:
        """Raises InvalidRequest with the ids that are known."""

    def connect(
        self, cluster_id: str, credentials: Credentials | None, purpose: str = ""
    ) -> AbstractContextManager[Cluster]:
        """The shared connection of this user for one purpose. Each purpose has another address, fenced for itself alone.

        None: the entry's own credentials. Raises InvalidRequest without any.
        """
