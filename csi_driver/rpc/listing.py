"""The calls that carry no secrets or need none: ListVolumes, ListSnapshots, looks at one of each, and GetCapacity.

They work with the clusters' own credentials; where the clusters file does not name these for every cluster they are not
offered, and answer UNIMPLEMENTED.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.wrappers_pb2 import Int64Value

from csi_driver.errors import InvalidRequest, NotFound, NotOffered
from csi_driver.ids import Handle
from csi_driver.model import Segments
from csi_driver.operations.capacity import Capacity, PoolsOfClass
from csi_driver.operations.health_listing import HealthListing
from csi_driver.operations.listing import Listing, Position
from csi_driver.operations.publication import VolumePublication
from csi_driver.operations.topology import is_reachable
from csi_driver.pb import csi_pb2 as pb
from csi_driver.pb import csi_pb2_grpc
from csi_driver.rpc import foreign_handles, sizes
from csi_driver.rpc.fields import check_map, check_text, parse_capabilities, parse_credentials, required
from csi_driver.rpc.gate import Gates
from csi_driver.rpc.health import volume_health
from csi_driver.rpc.page_tokens import parse_token, token_of
from csi_driver.rpc.parameters import ClassParameters, parse_class
from csi_driver.rpc.rendering import snapshot_answer, volume_answer

_Rpc = pb.ControllerServiceCapability.RPC.Type

LISTING_CAPABILITIES = (
    _Rpc.LIST_VOLUMES,
    _Rpc.GET_VOLUME,
    _Rpc.LIST_SNAPSHOTS,
    _Rpc.GET_SNAPSHOT,
    _Rpc.GET_CAPACITY,
    _Rpc.GET_VOLUME_HEALTH,
    _Rpc.LIST_VOLUME_HEALTH,
)
_EVERYWHERE = "all clusters"
"""The gate of calls that look at more than one cluster."""


@dataclass(frozen=True)
class OwnCredentials:
    """What the driver does as itself. cluster_ids: those for which it can."""

    listing: Listing
    capacity: Capacity
    health: HealthListing
    publication: VolumePublication
    cluster_ids: Callable[[], Sequence[str]]


class ListingCalls(csi_pb2_grpc.ControllerServicer):
    """The part of the Controller service that lists. `own`: None where these calls are not offered."""

    def __init__(self, own: OwnCredentials | None, gates: Gates, topology_of: str) -> None:
        """topology_of: the driver's name, where topology is offered."""
        self._own = own
        self._listing_gates = gates
        self._topology_of = topology_of

    def _offered(self) -> OwnCredentials:
        if self._own is None:
            raise NotOffered("the clusters file does not name credentials for every cluster, which this call needs")
        return self._own

    def _gate_of_own(self, identifier: str, noun: str) -> str:
        """The gate of one thing's cluster. Raises NotFound for one that the driver does not know."""
        handle = Handle.parse(identifier)
        if handle is None or handle.cluster_id not in self._offered().cluster_ids():
            raise NotFound(f"there is no {noun} {identifier!r}")
        return handle.cluster_id

    def ListVolumes(self, request: pb.ListVolumesRequest, context: grpc.ServicerContext) -> pb.ListVolumesResponse:
        own, limit = self._offered(), _limit(request.max_entries)
        start = _start(request.starting_token, own)
        page = self._listing_gates.run(_EVERYWHERE, lambda: own.listing.volumes(start, limit))
        answer = pb.ListVolumesResponse(next_token=token_of(page.last))
        for found in page.items:
            entry = answer.entries.add(volume=volume_answer(found.volume))
            entry.status.published_node_ids.extend(found.published_nodes)
        return answer

    def ControllerListVolumeHealth(
        self, request: pb.ControllerListVolumeHealthRequest, context: grpc.ServicerContext
    ) -> pb.ControllerListVolumeHealthResponse:
        own, limit = self._offered(), _limit(request.max_entries)
        start = _start(request.starting_token, own)
        parse_credentials(request.secrets)
        page = self._listing_gates.run(f"health/{_EVERYWHERE}", lambda: own.health.troubled(start, limit))
        entries = [volume_health(one.handle, one.troubles) for one in page.items]
        return pb.ControllerListVolumeHealthResponse(entries=entries, next_token=token_of(page.last))

    def ControllerGetVolume(
        self, request: pb.ControllerGetVolumeRequest, context: grpc.ServicerContext
    ) -> pb.ControllerGetVolumeResponse:
        own, identifier = self._offered(), foreign_handles.volume_id(request.volume_id)
        gate = self._gate_of_own(identifier, "volume")
        found = self._listing_gates.run(gate, lambda: own.listing.volume(identifier))
        answer = pb.ControllerGetVolumeResponse(volume=volume_answer(found.volume))
        answer.status.published_node_ids.extend(found.published_nodes)
        return answer

    def ListSnapshots(
        self, request: pb.ListSnapshotsRequest, context: grpc.ServicerContext
    ) -> pb.ListSnapshotsResponse:
        own, limit = self._offered(), _limit(request.max_entries)
        start = _start(request.starting_token, own)
        source = check_text("source_volume_id", request.source_volume_id)
        check_text("snapshot_id", request.snapshot_id)
        credentials = parse_credentials(request.secrets)
        if request.snapshot_id:
            return self._listed_alone(request.snapshot_id, source, request)
        if source:
            page = self._listing_gates.run(
                _EVERYWHERE, lambda: own.listing.snapshots_of(source, start, limit, credentials)
            )
        else:
            page = self._listing_gates.run(_EVERYWHERE, lambda: own.listing.snapshots(start, limit))
        answer = pb.ListSnapshotsResponse(next_token=token_of(page.last))
        for found in page.items:
            answer.entries.add(snapshot=snapshot_answer(found))
        return answer

    def _listed_alone(
        self, snapshot_id: str, source: str, request: pb.ListSnapshotsRequest
    ) -> pb.ListSnapshotsResponse:
        """A filter that matches nothing gives an empty list (CSI: ListSnapshots)."""
        answer = pb.ListSnapshotsResponse()
        try:
            found = self._snapshot(snapshot_id, request)
        except NotFound:
            return answer
        if source in ("", found.source_volume_id):
            answer.entries.add(snapshot=found)
        return answer

    def GetSnapshot(self, request: pb.GetSnapshotRequest, context: grpc.ServicerContext) -> pb.GetSnapshotResponse:
        self._offered()
        snapshot_id = required("snapshot_id", request.snapshot_id)
        return pb.GetSnapshotResponse(snapshot=self._snapshot(snapshot_id, request))

    def _snapshot(self, snapshot_id: str, request: pb.GetSnapshotRequest | pb.ListSnapshotsRequest) -> pb.Snapshot:
        own, credentials = self._offered(), parse_credentials(request.secrets)
        found = self._listing_gates.run(
            self._gate_of_own(snapshot_id, "snapshot"), lambda: own.listing.snapshot(snapshot_id, credentials)
        )
        return snapshot_answer(found)

    def GetCapacity(self, request: pb.GetCapacityRequest, context: grpc.ServicerContext) -> pb.GetCapacityResponse:
        own = self._offered()
        if request.volume_capabilities:
            parse_capabilities(request.volume_capabilities)
        given = check_map("parameters", request.parameters)
        check_map("accessible_topology.segments", request.accessible_topology.segments)
        object_size_bytes = sizes.DEFAULT_OBJECT_BYTES
        if given:
            wanted = parse_class(given, self._topology_of)
            object_size_bytes = wanted.layout.object_size_bytes
            pools = _pools(wanted, request.accessible_topology.segments, own.cluster_ids())
            available = self._listing_gates.run(wanted.cluster_id, lambda: own.capacity.of_class(pools))
        else:
            available = self._listing_gates.run(_EVERYWHERE, own.capacity.of_best_pool)
        # Images take room as they are written: one may be larger than what is there now, but not made in a full pool.
        largest = sizes.largest_image(object_size_bytes) if available else 0
        return pb.GetCapacityResponse(
            available_capacity=available,
            maximum_volume_size=Int64Value(value=largest),
            minimum_volume_size=Int64Value(value=sizes.MIN_BYTES),
        )


def _start(token: str, own: OwnCredentials) -> Position | None:
    return parse_token(check_text("starting_token", token), own.cluster_ids())


def _limit(max_entries: int) -> int:
    if max_entries < 0:
        raise InvalidRequest(f"max_entries is {max_entries}; allowed are 0 (all) and positive numbers")
    return max_entries


def _pools(wanted: ClassParameters, reached_from: Segments, cluster_ids: Sequence[str]) -> PoolsOfClass:
    """Those that the topology reaches, where the class binds its pools to one."""
    if wanted.cluster_id not in cluster_ids:
        raise InvalidRequest(
            f"clusterID {wanted.cluster_id!r} is not in the clusters file; it has: {', '.join(sorted(cluster_ids))}"
        )
    data_pool, wishes = wanted.layout.data_pool, [reached_from] if reached_from else []
    bound = [one for one in wanted.constrained_pools if is_reachable(one.segments, wishes)]
    pools = [(one.name, one.data_pool or data_pool) for one in bound]
    if not wanted.constrained_pools:
        pools = [(wanted.pool, data_pool)]
    return PoolsOfClass(wanted.cluster_id, tuple(pools), wanted.layout.object_size_bytes)
