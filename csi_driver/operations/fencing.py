"""Fencing: cut a node's client off from a volume for good, so that nothing of it is written any more.

The clients that have the image open or hold its exclusive lock go on the cluster's blocklist by their instance, address and
nonce, for twenty years: a client that was cut off and let in again would write what it still has in memory over newer data.
A node that comes back opens its images anew, as another instance, and needs nothing lifted. The driver's own connections are
never among them: they stand in the record of makers, and with the flatten queue.

A volume that other nodes may write too is not fenced: Ceph does not tell whose client is whose.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from csi_driver.ceph.api import ImageMissing, Watcher
from csi_driver.errors import DriverError, InUse
from csi_driver.ids import Handle
from csi_driver.journal.entries import VolumeEntry
from csi_driver.journal.publications import Publications, parse_publications
from csi_driver.operations.listing import Listing
from csi_driver.operations.site import Site, Sites

log = structlog.get_logger(__name__)

FENCE_S = 20 * 365 * 24 * 3600


def fence_client(site: Site, entry: VolumeEntry, present: Publications, node_id: str) -> tuple[str, ...]:
    """The addresses that were cut off; none for a node that only reads, or whose client is not there any more.

    Raises InUse when another node may have it open, too.
    """
    if not present[node_id].may_write:
        return ()
    others = sorted(other for other in present if other != node_id)
    if others:
        raise InUse(
            f"volume {site.handle(entry.uuid)} is published to {', '.join(others)}, too, "
            f"and Ceph does not tell which of its clients is that of node {node_id!r}"
        )
    addresses = _clients(site, entry)
    for address in addresses:
        site.cluster.blocklist(address, seconds=FENCE_S)
        log.warning("a node's client is fenced", node=node_id, volume=entry.uuid, address=address)
    return addresses


def _clients(site: Site, entry: VolumeEntry) -> tuple[str, ...]:
    """A client whose watch timed out, as that of a node without network does, still holds the image's lock."""
    image_id = entry.image_id or site.pool.images.find_id(entry.image_name)
    if not image_id:
        return ()
    found: list[Watcher] = list(site.pool.images.watchers(image_id))
    try:
        found += site.pool.images.lock_owners(image_id)
    except ImageMissing:
        pass  # nobody has open what cannot be opened
    own = site.makers.addresses(site.pool) | site.flatten_workers.addresses() | {site.cluster.address}
    return tuple(sorted({one.address for one in found} - own))


@dataclass(frozen=True)
class Fenced:
    """What became of one of a node's volumes. trouble: why it was not withdrawn from the node; empty when it was."""

    volume_id: str
    addresses: tuple[str, ...] = ()
    trouble: str = ""


Withdraw = Callable[[str, str], None]
"""Withdraws a volume, by its handle, from a node."""


class NodeFencing:
    """Fences and forgets whole nodes, for the operator. `listing`: of all volumes, by which a node's are found."""

    def __init__(self, sites: Sites, listing: Listing, withdraw: Withdraw) -> None:
        self._sites = sites
        self._listing = listing
        self._withdraw = withdraw

    def volumes_of(self, node_id: str) -> Sequence[str]:
        """Handles, by what each volume's entry says."""
        return [one.volume.handle for one in self._listing.all_volumes() if node_id in one.published_nodes]

    def fence(self, node_id: str) -> Iterator[Fenced]:
        """One volume after another; a second time there is only what could not be done."""
        for volume_id in self.volumes_of(node_id):
            try:
                addresses = self._fence(volume_id, node_id)
                self._withdraw(volume_id, node_id)
            except DriverError as error:
                yield Fenced(volume_id, trouble=str(error))
            else:
                yield Fenced(volume_id, addresses)

    def _fence(self, volume_id: str, node_id: str) -> tuple[str, ...]:
        handle = Handle.parse(volume_id)
        assert handle, volume_id
        with self._sites.open_of(handle, None) as site:
            entry = site.journal.load(handle.uuid)
            present = parse_publications(entry.publications) if entry else {}
            return fence_client(site, entry, present, node_id) if entry and node_id in present else ()
