"""The Identity service: who this is, what it offers, whether it is ready. Never waits for Ceph."""

from collections.abc import Callable
from dataclasses import dataclass

import grpc
from google.protobuf.wrappers_pb2 import BoolValue

from csi_driver.pb import csi_pb2 as pb
from csi_driver.pb import csi_pb2_grpc

_Service = pb.PluginCapability.Service.Type
_Expansion = pb.PluginCapability.VolumeExpansion.Type


@dataclass(frozen=True)
class Identity:
    """Name, version, and what the instances of this deployment offer together."""

    driver_name: str
    version: str
    has_topology: bool


class IdentityService(csi_pb2_grpc.IdentityServicer):
    """CSI Identity. `is_ready` answers at once, and raises NotReady when no cluster can be reached any more."""

    def __init__(self, identity: Identity, is_ready: Callable[[], bool]) -> None:
        self._identity = identity
        self._is_ready = is_ready

    def GetPluginInfo(
        self, request: pb.GetPluginInfoRequest, context: grpc.ServicerContext
    ) -> pb.GetPluginInfoResponse:
        return pb.GetPluginInfoResponse(name=self._identity.driver_name, vendor_version=self._identity.version)

    def GetPluginCapabilities(
        self, request: pb.GetPluginCapabilitiesRequest, context: grpc.ServicerContext
    ) -> pb.GetPluginCapabilitiesResponse:
        services = [_Service.CONTROLLER_SERVICE, _Service.GROUP_CONTROLLER_SERVICE, _Service.SNAPSHOT_METADATA_SERVICE]
        if self._identity.has_topology:
            services += [_Service.VOLUME_ACCESSIBILITY_CONSTRAINTS, _Service.SNAPSHOT_ACCESSIBILITY_CONSTRAINTS]
        answer = pb.GetPluginCapabilitiesResponse()
        for one in services:
            answer.capabilities.add().service.type = one
        answer.capabilities.add().volume_expansion.type = _Expansion.ONLINE
        return answer

    def Probe(self, request: pb.ProbeRequest, context: grpc.ServicerContext) -> pb.ProbeResponse:
        return pb.ProbeResponse(ready=BoolValue(value=self._is_ready()))
