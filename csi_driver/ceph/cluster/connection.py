"""One connection to a cluster as one user, and the pools opened on it."""

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import rados
import structlog

from csi_driver.addresses import ClusterEntry, Credentials, ImageAddress
from csi_driver.ceph.adoption import Adoption
from csi_driver.ceph.ancestry import HeaderAncestry
from csi_driver.ceph.api import DAY_S, Ancestry, Cluster, Groups, HealthCheck, Images, Leases, Pool, PoolUsage
from csi_driver.ceph.clone_gate import CloneGate
from csi_driver.ceph.cluster import monitor
from csi_driver.ceph.cluster.handle import WITHOUT_END, Timeouts, connected
from csi_driver.ceph.cluster.making_turns import MakingTurns
from csi_driver.ceph.cluster.objects import RadosObjects
from csi_driver.ceph.cluster.reach import check_key_form
from csi_driver.ceph.errnos import RECONNECT, meaning_of
from csi_driver.ceph.groups import RbdGroups
from csi_driver.ceph.image_making import ImageMaker, MakingPlace
from csi_driver.ceph.image_place import Learnt, OpenedImages, Place
from csi_driver.ceph.images import RbdImages
from csi_driver.ceph.plain_pools import PlainPools
from csi_driver.errors import PoolMissing
from csi_driver.tracing import step

log = structlog.get_logger(__name__)


class Connection:
    """`Cluster` over librados: one handle, and for making images another."""

    def __init__(self, entry: ClusterEntry, credentials: Credentials, timeouts: Timeouts, turns: MakingTurns) -> None:
        check_key_form(credentials)
        self.entry = entry
        self.user = credentials.user
        self.users = 0
        self.is_given_up = False
        self.ensured: set[tuple[int, str]] = set()
        self.open_images = OpenedImages()
        self.learnt = Learnt()
        self._credentials = credentials
        self._timeouts = timeouts
        self.making_turns = turns
        self._rados = connected(entry, credentials, timeouts, osd_s=timeouts.operation_s)
        self.address = self._rados.get_addrs()
        self._maker: rados.Rados | None = None
        self._connecting_maker = threading.Lock()
        self.clone_gate = CloneGate(lambda chosen: self._for_making().conf_set("rbd_default_clone_format", chosen))
        self.plain_pools = PlainPools(self.headers, lambda setting: self._for_making().conf_get(setting) or "")
        log.info("connected", cluster=entry.cluster_id, user=credentials.user, address=self.address)

    @property
    def making_address(self) -> str:
        return self._for_making().get_addrs()

    def _for_making(self) -> rados.Rados:
        """A second handle, made when it is needed: it does not give an OSD's operation up (docs/decisions/0034)."""
        with self._connecting_maker:
            if self._maker is None:
                self._maker = connected(self.entry, self._credentials, self._timeouts, osd_s=WITHOUT_END)
            return self._maker

    @contextmanager
    def making(self, pool_id: int) -> Iterator[rados.Ioctx]:
        """The pool, to make images there."""
        with self._making_at(pool_id, self.entry.rados_namespace) as ioctx:
            yield ioctx

    @contextmanager
    def making_objects(self, pool_id: int, namespace: str) -> Iterator[RadosObjects]:
        """The objects that an image is made of, and the headers of parents, wherever they lie."""
        with self._making_at(pool_id, namespace) as ioctx:
            yield RadosObjects(ioctx, self.translated, set())

    @contextmanager
    def _making_at(self, pool_id: int, namespace: str) -> Iterator[rados.Ioctx]:
        with self.translated(f"open pool {pool_id}"):
            ioctx = self._for_making().open_ioctx2(pool_id)
        try:
            yield _prepared(ioctx, namespace)
        finally:
            ioctx.close()

    @contextmanager
    def pool(self, pool: str | int) -> Iterator["RadosPool"]:
        with self.translated(f"open pool {pool!r}"):
            try:
                ioctx = self._rados.open_ioctx(pool) if isinstance(pool, str) else self._rados.open_ioctx2(pool)
            except rados.Error as error:
                if error.errno == errno.ENOENT:
                    raise PoolMissing(f"cluster {self.entry.cluster_id!r} has no pool {pool!r}") from error
                raise
        try:
            _prepared(ioctx, self.entry.rados_namespace)
            if isinstance(pool, int):
                ioctx.name = self.pool_name(pool)  # the binding would call the pool by its number
            yield RadosPool(self, ioctx)
        finally:
            ioctx.close()

    def pool_id(self, name: str) -> int | None:
        """None when there is no such pool."""
        found = self._rados.pool_lookup(name)
        return None if found is None else int(found)

    def pool_names(self) -> list[str]:
        with self.translated("list the pools"):
            return self._rados.list_pools()

    def pool_ids(self) -> dict[str, int]:
        return {str(one["poolname"]): int(one["poolnum"]) for one in self._ask({"prefix": "osd lspools"})}

    def rbd_pools(self) -> tuple[int, ...]:
        names = monitor.rbd_pools(self._ask({"prefix": "osd pool application get"}))
        with self.translated("look pools up"):
            found = [self._rados.pool_lookup(name) for name in names]
        return tuple(sorted(pool_id for pool_id in found if pool_id is not None))

    def health(self) -> tuple[HealthCheck, ...]:
        return monitor.health_checks(self._ask({"prefix": "health", "detail": "detail"}))

    def blocklisted(self) -> frozenset[str]:
        return monitor.blocklisted(self._ask({"prefix": "osd blocklist ls"}))

    def _ask(self, command: dict[str, str]) -> Any:
        """What a monitor answers to a command, as JSON has it."""
        doing = f"ask a monitor for {command['prefix']!r}"
        with step("cluster.ask_monitor", command["prefix"]), self.translated(doing):
            return monitor.ask(self._rados, command)

    def clones_format_2(self) -> bool:
        doing = "ask a monitor for the oldest clients that are let in"
        with step("cluster.ask_monitor", "osd get-require-min-compat-client"), self.translated(doing):
            oldest = monitor.oldest_client(self._rados)
        return oldest >= "mimic" and oldest != "unknown"  # releases are called in the order of the alphabet

    def usage(self) -> dict[str, PoolUsage]:
        return monitor.usage(self._ask({"prefix": "df", "detail": "detail"}))

    @contextmanager
    def headers(self, pool_id: int, namespace: str) -> Iterator[RadosObjects]:
        """The objects of a pool and namespace that need not be the entry's: an image's parent may lie anywhere."""
        with self.translated(f"open pool {pool_id}"):
            ioctx = self._rados.open_ioctx2(pool_id)
        try:
            ioctx.set_namespace(namespace)
            yield RadosObjects(ioctx, self.translated, set())
        finally:
            ioctx.close()

    def pool_name(self, pool_id: int) -> str:
        """The name of a pool by id; empty when there is none."""
        return self._rados.pool_reverse_lookup(pool_id) or "" if pool_id >= 0 else ""

    def blocklist(self, address: str, *, seconds: int = DAY_S) -> None:
        with step("cluster.blocklist", address), self.translated(f"blocklist {address}"):
            self._rados.blocklist_add(address, seconds)
            self._rados.wait_for_latest_osdmap()
            if self._maker:  # what it asks for comes after the fence as well
                self._maker.wait_for_latest_osdmap()
        log.warning("fenced", address=address, cluster=self.entry.cluster_id)

    def ask_monitor(self) -> None:
        """One round trip to a monitor."""
        with step("cluster.ask_monitor", self.entry.cluster_id), self.translated("ask a monitor for the OSD map"):
            self._rados.wait_for_latest_osdmap()

    def replace(self) -> None:
        self.is_given_up = True

    def image_address(self, pool: Pool, image: str) -> ImageAddress:
        entry = self.entry
        return ImageAddress(
            entry.monitors, self._credentials, pool.name, entry.rados_namespace, image, entry.read_affinity
        )

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """Errors of librados and librbd that the caller does not expect, as the driver's own."""
        try:
            yield
        except Exception as error:
            number = getattr(error, "errno", None)
            if number is None or isinstance(error, OSError):
                raise
            if number in RECONNECT:
                self.replace()
            raise meaning_of(error, f"{doing} as client.{self._credentials.user}") from error

    def close(self) -> None:
        self.open_images.close()
        self._rados.shutdown()
        if self._maker:
            self._maker.shutdown()


def _prepared(ioctx: rados.Ioctx, namespace: str) -> rados.Ioctx:
    ioctx.set_namespace(namespace)
    ioctx.set_osdmap_full_try()  # deletes must work on a full pool, and creates fail at once
    return ioctx


@dataclass
class RadosPool:
    """`Pool` over one IoCtx."""

    cluster: Connection
    ioctx: rados.Ioctx
    images: Images = field(init=False)

    def __post_init__(self) -> None:
        self.objects = RadosObjects(self.ioctx, self.cluster.translated, self.cluster.ensured)
        self.leases: Leases = self.objects
        cluster = self.cluster
        place = Place(
            self.ioctx,
            lambda: cluster.making(self.pool_id),
            lambda: cluster.making_turns.hold(cluster.entry.cluster_id, self.pool_id, self.name),
            cluster.open_images,
            cluster.learnt,
            cluster.clones_format_2,
            cluster.clone_gate,
            self.pool_id,
            self.name,
            self.namespace,
            cluster.pool_name,
        )
        self.ancestry: Ancestry = HeaderAncestry((self.pool_id, self.namespace), self.objects, self.cluster.headers)
        adoption = Adoption(self.pool_id, self.namespace, cluster.making_objects)
        making = MakingPlace(
            self.pool_id,
            self.name,
            self.namespace,
            lambda: cluster.making_objects(self.pool_id, self.namespace),
            cluster.pool_id,
        )
        maker = ImageMaker(making, cluster.plain_pools)
        self.images = RbdImages(place, self.objects, cluster.translated, maker, adoption)
        self.groups: Groups = RbdGroups(place, self.objects, cluster.translated)

    @property
    def name(self) -> str:
        return self.ioctx.name

    @property
    def pool_id(self) -> int:
        return self.ioctx.get_pool_id()

    @property
    def namespace(self) -> str:
        return self.cluster.entry.rados_namespace


_: type[Cluster] = Connection
