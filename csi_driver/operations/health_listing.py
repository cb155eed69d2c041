"""ControllerListVolumeHealth: the volumes that something is wrong with, in pages as ListVolumes has them.

A healthy volume is left out, so that a page may hold few entries, or none, and still not be the last: after a number of
volumes looked at it ends, that no call takes long however many there are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from csi_driver.journal.entries import VolumeEntry
from csi_driver.model import VolumeTrouble
from csi_driver.operations.listing import Listing, Page, Position
from csi_driver.operations.site import Site
from csi_driver.operations.volume_health import ClusterReport, look_at_cluster, troubles

LOOKED_AT_ONCE = 5000


@dataclass(frozen=True)
class Troubled:
    """A volume, and what is wrong with it; nothing, if it is healthy."""

    handle: str
    troubles: Sequence[VolumeTrouble]


class HealthListing:
    """Lists what is not healthy. Its own sites: their connections are soon tired of a cluster that does not answer."""

    def __init__(self, listing: Listing, looked_at_once: int = LOOKED_AT_ONCE) -> None:
        self._listing = listing
        self._looked_at_once = looked_at_once

    def troubled(self, start: Position | None, limit: int) -> Page[Troubled]:
        """At most `limit`, or all with 0. Raises BadPageToken, ClusterUnavailable."""
        items: list[Troubled] = []
        last, looked_at = None, 0
        for volume, at in self._listing.walk_volumes(start, _look()):
            if (limit and len(items) == limit) or looked_at == self._looked_at_once:
                return Page(tuple(items), last)
            if volume.troubles:
                items.append(volume)
            last, looked_at = at, looked_at + 1
        return Page(tuple(items))


def _look() -> Callable[[Site, VolumeEntry], Troubled | None]:
    """Of each cluster one look serves all its volumes."""
    reports: dict[str, ClusterReport] = {}

    def look(site: Site, entry: VolumeEntry) -> Troubled | None:
        if not entry.is_usable:
            return None
        report = reports.get(site.key.cluster_id)
        if report is None:
            report = reports[site.key.cluster_id] = look_at_cluster(site)
        return Troubled(str(site.handle(entry.uuid)), tuple(troubles(site, entry, report)))

    return look
