"""ControllerPublishVolume and ControllerUnpublishVolume: which nodes may have a volume.

`decide` says whether a node may, by what O has of the others. The order of the writes, and what a crash leaves, stands in
journal/nodes.py; that of two replicas which publish one volume one wins is the compare on O.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

import structlog

from csi_driver.addresses import Credentials, StaticImage
from csi_driver.errors import AccessDenied, Busy, Conflict, InUse, NoSpace, NotFound, PoolMissing, Rejected
from csi_driver.ids import Handle
from csi_driver.journal.entries import VolumeEntry
from csi_driver.journal.nodes import NodeClaims, NodeRecord, is_under_way
from csi_driver.journal.publications import NodePublication, Publications, parse_publications, publications_text
from csi_driver.journal.reading import Lost
from csi_driver.locks import KeyedLocks
from csi_driver.model import AccessMode, Capability
from csi_driver.notices import FENCED, Notice
from csi_driver.operations.fencing import fence_client
from csi_driver.operations.lookup import VolumeLookup
from csi_driver.operations.nodes import Nodes, OwnPools
from csi_driver.operations.site import Site, Sites, load_usable, parse_handle

log = structlog.get_logger(__name__)

_ROUNDS = 8

READ_ONLY_KEY = "readonly"
"""Of the publish context, for the node half: "true" where the volume was published read-only."""


@dataclass(frozen=True)
class PublishRequest:
    """A ControllerPublishVolume. read_only: asked for, beside what the access mode says."""

    volume_id: str
    node_id: str
    capability: Capability
    read_only: bool
    credentials: Credentials | None


class Step(Enum):
    NOTHING = auto()  # published there in the same way
    RECORD = auto()  # the node may have it


def decide(present: Publications, node_id: str, wanted: NodePublication) -> Step:
    """Raises Conflict (ALREADY_EXISTS) for this node, InUse (FAILED_PRECONDITION) because of another one."""
    if here := present.get(node_id):
        if here == wanted:
            return Step.NOTHING
        raise Conflict(f"the volume is published to node {node_id!r} as {_shown(here)}, not as {_shown(wanted)}")
    for other_id, other in sorted(present.items()):
        if not (wanted.mode.is_multi_node and other.mode.is_multi_node):
            raise InUse(
                f"the volume is published to node {other_id!r} as {_shown(other)}; "
                f"a second node as {_shown(wanted)} is not allowed: unpublish it there first"
            )
        modes = (wanted.mode, other.mode)
        if AccessMode.MULTI_NODE_SINGLE_WRITER in modes and wanted.may_write and other.may_write:
            raise InUse(
                f"the volume is published to node {other_id!r}, which writes to it; a second writer is not allowed"
            )
    return Step.RECORD


class VolumePublication:
    """Publishes volumes to nodes, and withdraws them."""

    def __init__(
        self, sites: Sites, locks: KeyedLocks, nodes: Nodes, pools: OwnPools, *, fence_gone: bool = False
    ) -> None:
        """fence_gone: what an unpublish withdraws from a node that is out of service, its client is cut off from first."""
        self._fence_gone = fence_gone
        self._sites = sites
        self._locks = locks
        self._nodes = nodes
        self._pools = pools

    def publish(self, request: PublishRequest) -> Mapping[str, str]:
        """The publish context. Raises NotFound (volume, node), Conflict, InUse, NoSpace at the node's limit, Unfinished."""
        handle = parse_handle(request.volume_id)
        wanted = NodePublication(str(request.capability), request.read_only)
        try:
            with (
                self._locks.hold(_lock(handle)),
                self._sites.open_of(handle, request.credentials) as site,
            ):
                entry = load_usable(site, handle)
                self._publish(site, entry, self._known_node(request.node_id), wanted)
        except PoolMissing as error:
            raise NotFound(f"there is no volume {request.volume_id!r}: {error}") from error
        return _context(request)

    def publish_static(self, request: PublishRequest, image: StaticImage) -> Mapping[str, str]:
        """The publish context. Nothing is recorded of an image that no journal knows, so no second node is refused.

        Raises NotFound (image, node).
        """
        VolumeLookup(self._sites).locate_static(image, request.credentials)
        self._known_node(request.node_id)
        return _context(request)

    def _known_node(self, node_id: str) -> NodeRecord:
        if node := self._nodes.find(node_id):
            return node
        raise NotFound(f"there is no node {node_id!r}: its plugin has not made itself known")

    def _publish(self, site: Site, entry: VolumeEntry, node: NodeRecord, wanted: NodePublication) -> None:
        claims, claim = NodeClaims(site.pool, site.instance, node.node_id), ""
        for _ in range(_ROUNDS):
            present = parse_publications(entry.publications)
            try:
                if decide(present, node.node_id, wanted) is Step.NOTHING:
                    return
                claim = claim or claims.claim(entry.uuid)
                self._refuse_above_limit(node, entry.uuid)
            except Rejected:
                if claim and node.node_id not in present:
                    claims.drop(entry.uuid, claim)
                raise
            try:
                site.journal.record_publications(entry, publications_text({**present, node.node_id: wanted}))
            except Lost as lost:
                log.info("following another process", reason=str(lost))
                try:
                    entry = load_usable(site, site.handle(entry.uuid))
                except NotFound:
                    claims.drop(entry.uuid, claim)
                    raise
            else:
                _hold(site, node.node_id, entry.uuid, claim)
                return
        raise Busy(f"volume {site.handle(entry.uuid)} is being published by other processes; repeat the call")

    def unpublish(self, volume_id: str, node_id: str, credentials: Credentials | None) -> None:
        """From one node, or from all of them with ""; fine when there is no such volume, node or publication."""
        handle = Handle.parse(volume_id)
        if handle is None:
            return
        try:
            with self._locks.hold(_lock(handle)), self._sites.open_of(handle, credentials) as site:
                self._unpublish(site, handle.uuid, node_id)
        except PoolMissing:
            return

    def _unpublish(self, site: Site, uuid: str, node_id: str) -> None:
        for _ in range(_ROUNDS):
            entry = site.journal.load(uuid)
            present = parse_publications(entry.publications) if entry else {}
            leaving = sorted(present) if not node_id else [node_id]
            if entry and present.keys() & set(leaving):
                staying = {node: one for node, one in present.items() if node not in leaving}
                self._fence(site, entry, present, leaving)
                try:
                    site.journal.record_publications(entry, publications_text(staying))
                except Lost as lost:
                    log.info("following another process", reason=str(lost))
                    continue
            for node in leaving:
                release_claim(site, node, uuid)
            return
        raise Busy(f"volume {site.handle(uuid)} is being published by other processes; repeat the call")

    def _fence(self, site: Site, entry: VolumeEntry, present: Publications, leaving: list[str]) -> None:
        """Before the record goes: whoever gets the volume next must not meet the gone node's writes."""
        if not self._fence_gone:
            return
        for node_id in leaving:
            if node_id in present and self._nodes.is_gone(node_id):
                try:
                    if fence_client(site, entry, present, node_id):
                        said = f"node {node_id!r}, which is out of service, was cut off"
                        site.tell(Notice(entry.request_name, FENCED, said))
                except InUse as shared:
                    log.warning("a gone node is not fenced", node=node_id, volume=entry.uuid, reason=str(shared))

    def _refuse_above_limit(self, node: NodeRecord, uuid: str) -> None:
        """Counted with the own claim standing: of two that come at once each sees the other's. Raises NoSpace."""
        if not node.max_volumes:
            return
        if self._count(node.node_id, uuid, verify=False) < node.max_volumes:
            return
        others = self._count(node.node_id, uuid, verify=True)
        if others >= node.max_volumes:
            raise NoSpace(f"node {node.node_id!r} has {others} volumes; at most {node.max_volumes} are allowed")

    def _count(self, node_id: str, but: str, *, verify: bool) -> int:
        """The node's volumes in all pools. `verify`: what a crash left is cleared away."""
        return sum(self._count_at(site, node_id, but, verify=verify) for site in self._pools.each())

    def _count_at(self, site: Site, node_id: str, but: str, *, verify: bool) -> int:
        try:
            found = NodeClaims(site.pool, site.instance, node_id).all().items()
            others = [(uuid, claim) for uuid, claim in found if uuid != but]
            return sum(not verify or _is_true(site, node_id, *one) for one in others)
        except AccessDenied:
            return 0


def _hold(site: Site, node_id: str, uuid: str, claim: str) -> None:
    """After the publication is recorded. An unpublish on its way may have dropped the claim, before that or after."""
    claims = NodeClaims(site.pool, site.instance, node_id)
    if not claims.hold(uuid, claim):
        entry = site.journal.load(uuid)
        if entry and node_id in parse_publications(entry.publications):
            claims.hold(uuid, None)


def release_claim(site: Site, node_id: str, uuid: str) -> None:
    """Drop the claim of a volume that the node does not have."""
    claims = NodeClaims(site.pool, site.instance, node_id)
    claim = claims.find(uuid)
    if claim is None:
        return
    entry = site.journal.load(uuid)
    if entry is None or node_id not in parse_publications(entry.publications):
        claims.drop(uuid, claim)


def _is_true(site: Site, node_id: str, uuid: str, claim: str) -> bool:
    """Whether a claim counts: the volume is published there, or a publish may be under way. Else it is dropped."""
    entry = site.journal.load(uuid)
    if (entry and node_id in parse_publications(entry.publications)) or is_under_way(claim):
        return True
    log.info("a claim that a crash left is dropped", node=node_id, volume=uuid)
    NodeClaims(site.pool, site.instance, node_id).drop(uuid, claim)
    return False


def _context(request: PublishRequest) -> dict[str, str]:
    may_write = NodePublication(str(request.capability), request.read_only).may_write
    return {} if may_write else {READ_ONLY_KEY: "true"}


def _lock(handle: Handle) -> str:
    return f"publications of volume {handle}"


def _shown(publication: NodePublication) -> str:
    return f"{publication.capability}{', read-only' if publication.read_only else ''}"
