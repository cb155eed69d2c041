"""ControllerPublishVolume and ControllerUnpublishVolume; offered, as listings are, with credentials of the driver's own."""

import grpc

from csi_driver.errors import InvalidRequest, NotFound
from csi_driver.ids import Handle
from csi_driver.operations.publication import PublishRequest
from csi_driver.pb import csi_pb2 as pb
from csi_driver.rpc.fields import check_map, check_text, parse_capability, parse_credentials, required
from csi_driver.rpc.foreign_handles import static_image, volume_id
from csi_driver.rpc.listing import ListingCalls

_Rpc = pb.ControllerServiceCapability.RPC.Type

PUBLICATION_CAPABILITIES = (
    _Rpc.PUBLISH_UNPUBLISH_VOLUME,
    _Rpc.PUBLISH_READONLY,
    _Rpc.LIST_VOLUMES_PUBLISHED_NODES,
)
MAX_NODE_ID_BYTES = 256
"""CSI spec, NodeGetInfoResponse."""


class PublicationCalls(ListingCalls):
    """The part of the Controller service that publishes volumes to nodes."""

    def ControllerPublishVolume(
        self, request: pb.ControllerPublishVolumeRequest, context: grpc.ServicerContext
    ) -> pb.ControllerPublishVolumeResponse:
        own, asked = self._offered(), _publish_request(request)
        if image := static_image(asked.volume_id, request.volume_context):
            if image.cluster_id not in own.cluster_ids():
                raise NotFound(f"there is no volume {image.name!r}: its cluster {image.cluster_id!r} is not known")
            told = self._listing_gates.run(image.cluster_id, lambda: own.publication.publish_static(asked, image))
            return pb.ControllerPublishVolumeResponse(publish_context=told)
        found = self._listing_gates.run(
            self._gate_of_own(asked.volume_id, "volume"), lambda: own.publication.publish(asked)
        )
        return pb.ControllerPublishVolumeResponse(publish_context=found)

    def ControllerUnpublishVolume(
        self, request: pb.ControllerUnpublishVolumeRequest, context: grpc.ServicerContext
    ) -> pb.ControllerUnpublishVolumeResponse:
        own, identifier = self._offered(), volume_id(request.volume_id)
        node_id = check_text("node_id", request.node_id, MAX_NODE_ID_BYTES)
        credentials = parse_credentials(request.secrets)
        handle = Handle.parse(identifier)
        if handle is None:
            return pb.ControllerUnpublishVolumeResponse()
        if handle.cluster_id not in own.cluster_ids():
            known = ", ".join(own.cluster_ids())
            raise InvalidRequest(
                f"volume_id: cluster {handle.cluster_id!r} is not in the clusters file; it has: {known}"
            )
        self._listing_gates.run(handle.cluster_id, lambda: own.publication.unpublish(identifier, node_id, credentials))
        return pb.ControllerUnpublishVolumeResponse()


def _publish_request(request: pb.ControllerPublishVolumeRequest) -> PublishRequest:
    identifier = volume_id(request.volume_id)
    node_id = required("node_id", request.node_id, MAX_NODE_ID_BYTES)
    if not request.HasField("volume_capability"):
        raise InvalidRequest("volume_capability is missing")
    capability = parse_capability(request.volume_capability, "volume_capability")
    check_map("volume_context", request.volume_context)
    return PublishRequest(identifier, node_id, capability, request.readonly, parse_credentials(request.secrets))
