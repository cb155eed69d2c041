"""The SnapshotMetadata service: streams of ranges, part by part behind the cluster's gate.

One style, ranges of any length: RBD tells of whole objects, and neighbours are one range.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import grpc

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import Extent
from csi_driver.errors import InvalidRequest, NotFound
from csi_driver.ids import Handle
from csi_driver.operations.changed_blocks import ChangedBlocks
from csi_driver.pb import csi_pb2 as pb
from csi_driver.pb import csi_pb2_grpc
from csi_driver.rpc.fields import parse_credentials, required
from csi_driver.rpc.gate import Gates

MOST_RESULTS = 10_000
"""In one message, whatever is asked for: far below the 4 MiB that a client takes."""


@dataclass(frozen=True)
class _Asked:
    target_id: str
    base_id: str | None
    start: int
    most: int
    credentials: Credentials | None


class SnapshotMetadataService(csi_pb2_grpc.SnapshotMetadataServicer):
    """CSI SnapshotMetadata. `known` raises InvalidRequest for a cluster that is not configured."""

    def __init__(self, blocks: ChangedBlocks, gates: Gates, known: Callable[[str], object]) -> None:
        self._blocks = blocks
        self._gates = gates
        self._known = known

    def GetMetadataAllocated(
        self, request: pb.GetMetadataAllocatedRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.GetMetadataAllocatedResponse]:
        asked = _Asked(
            required("snapshot_id", request.snapshot_id),
            None,
            request.starting_offset,
            _most(request.max_results),
            parse_credentials(request.secrets),
        )
        for size_bytes, part in self._stream(asked):
            yield pb.GetMetadataAllocatedResponse(
                block_metadata_type=pb.VARIABLE_LENGTH, volume_capacity_bytes=size_bytes, block_metadata=_blocks(part)
            )

    def GetMetadataDelta(
        self, request: pb.GetMetadataDeltaRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.GetMetadataDeltaResponse]:
        asked = _Asked(
            required("target_snapshot_id", request.target_snapshot_id),
            required("base_snapshot_id", request.base_snapshot_id),
            request.starting_offset,
            _most(request.max_results),
            parse_credentials(request.secrets),
        )
        for size_bytes, part in self._stream(asked):
            yield pb.GetMetadataDeltaResponse(
                block_metadata_type=pb.VARIABLE_LENGTH, volume_capacity_bytes=size_bytes, block_metadata=_blocks(part)
            )

    def _stream(self, asked: _Asked) -> Iterator[tuple[int, list[Extent]]]:
        """Size of the snapshot and ranges of each message; one message at least, which tells the size."""
        gate = self._gate_of(asked.target_id)
        compared = self._gates.run(
            gate, lambda: self._blocks.begin(asked.target_id, asked.base_id, asked.start, asked.credentials)
        )
        waiting: list[Extent] = []
        start: int | None = asked.start
        is_first = True
        while start is not None:
            looked = self._gates.run(gate, partial(self._blocks.look, compared, start))
            waiting += looked.found
            start = looked.next_start
            while len(waiting) >= asked.most or (start is None and (waiting or is_first)):
                yield compared.size_bytes, waiting[: asked.most]
                waiting, is_first = waiting[asked.most :], False

    def _gate_of(self, snapshot_id: str) -> str:
        handle = Handle.parse(snapshot_id)
        if handle is None:
            return ""
        try:
            self._known(handle.cluster_id)
        except InvalidRequest as unknown:
            raise NotFound(f"there is no snapshot {snapshot_id!r}: {unknown}") from unknown
        return handle.cluster_id


def _most(max_results: int) -> int:
    if max_results < 0:
        raise InvalidRequest(f"max_results is {max_results}; allowed are 0 (the driver decides) and more")
    return min(max_results or MOST_RESULTS, MOST_RESULTS)


def _blocks(extents: list[Extent]) -> list[pb.BlockMetadata]:
    return [pb.BlockMetadata(byte_offset=one.offset, size_bytes=one.length) for one in extents]
