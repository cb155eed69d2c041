"""ControllerGetVolumeHealth and ControllerListVolumeHealth: what is wrong with a volume, seen from the cluster.

Asked anew by each call, of the journal, the cluster's health report, the image and its lock; nothing is remembered, so that
a trouble is gone with its cause. A cluster that does not answer is an answer, not an error: the connection for these calls
gives up after few seconds (cli/assembly.py).
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import HealthCheck, ImageMissing
from csi_driver.errors import ClusterUnavailable, NotFound, PoolMissing
from csi_driver.ids import Handle
from csi_driver.journal.entries import VolumeEntry
from csi_driver.model import HealthStatus, VolumeTrouble
from csi_driver.operations.pool_health import PoolName, pool_troubles
from csi_driver.operations.site import Site, Sites, load_usable, parse_handle
from csi_driver.tracing import step


@dataclass(frozen=True)
class ClusterReport:
    """What one look at a cluster told: its health checks, the clients on its blocklist, its pools by name."""

    checks: tuple[HealthCheck, ...]
    fenced: frozenset[str]
    pool_ids: dict[str, int] = field(default_factory=dict)


class VolumeHealth:
    """Looks at volumes."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    def of(self, volume_id: str, credentials: Credentials | None) -> tuple[VolumeTrouble, ...]:
        """Empty: healthy. Raises NotFound."""
        handle = parse_handle(volume_id)
        try:
            with self._sites.open_of(handle, credentials) as site:
                entry = load_usable(site, handle)
                return tuple(troubles(site, entry, look_at_cluster(site)))
        except ClusterUnavailable as unavailable:
            return (unanswered(handle, unavailable),)
        except PoolMissing as missing:
            raise NotFound(f"there is no volume {volume_id!r}: {missing}") from missing


def look_at_cluster(site: Site) -> ClusterReport:
    with step("health.look_at_cluster", site.key.cluster_id):
        return ClusterReport(site.cluster.health(), site.cluster.blocklisted(), site.cluster.pool_ids())


def troubles(site: Site, entry: VolumeEntry, report: ClusterReport) -> Iterator[VolumeTrouble]:
    """Raises ClusterUnavailable."""
    yield from pool_troubles(report.checks, _pools_of(site, entry, report))
    image_id = site.pool.images.find_id(entry.image_name)
    if image_id is None or not site.pool.ancestry.has_header(image_id):
        message = (
            f"image {entry.image_name} is not in pool {site.pool.name!r}, though the journal has the volume complete"
        )
        yield VolumeTrouble(HealthStatus.DATA_LOSS, "ImageMissing", message)
        return
    if site.flatten_queue.holds_up(image_id):
        message = f"image {entry.image_name} waits for its flatten to be finished, which was cut short"
        yield VolumeTrouble(HealthStatus.INACCESSIBLE, "FlattenCutShort", message)
        return
    if report.fenced:
        yield from _fenced_clients(site, entry, image_id, report.fenced)


def unanswered(handle: Handle, why: ClusterUnavailable) -> VolumeTrouble:
    return VolumeTrouble(
        HealthStatus.INACCESSIBLE, "ClusterUnreachable", f"cluster {handle.cluster_id!r} does not answer: {why}"
    )


def _fenced_clients(site: Site, entry: VolumeEntry, image_id: str, fenced: frozenset[str]) -> Iterator[VolumeTrouble]:
    """A client that was cut off has no watch any more, but its lock stays until another client wants it."""
    with suppress(ImageMissing):  # removed just now
        cut_off = [one.address for one in site.pool.images.lock_owners(image_id) if one.address in fenced]
        if cut_off:
            message = (
                f"client {', '.join(cut_off)} has image {entry.image_name} attached and is on the cluster's blocklist: "
                "its reads and writes fail; unpublish, unstage and stage the volume anew"
            )
            yield VolumeTrouble(HealthStatus.INACCESSIBLE, "ClientBlocklisted", message)


def _pools_of(site: Site, entry: VolumeEntry, report: ClusterReport) -> Iterator[PoolName]:
    yield PoolName(site.pool.pool_id, site.pool.name)
    data_pool = ((entry.request or {}).get("layout") or {}).get("data_pool")
    if data_pool and data_pool in report.pool_ids:
        yield PoolName(report.pool_ids[data_pool], data_pool)
