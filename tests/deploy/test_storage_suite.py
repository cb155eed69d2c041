"""What Kubernetes' own storage tests are told of the driver is what the driver advertises, and the chart says."""

from typing import Any, cast

import grpc
import pytest
import yaml

from csi_driver.pb import csi_pb2 as pb
from csi_driver.rpc import controller, group_controller, identity, listing, node
from csi_driver.rpc.fields import FILE_SYSTEMS
from tests.deploy.test_chart import EVERYTHING, objects
from tests.e2e.storage_suite import TEST_DRIVER

_Controller = pb.ControllerServiceCapability.RPC
_Node = pb.NodeServiceCapability.RPC
_Plugin = pb.PluginCapability.Service

ALWAYS = ("persistence", "block", "exec", "multipods", "multiplePVsSameID", "capReadOnlyMany")
"""Nothing is advertised for these: they are how volumes of this driver are."""
NOT_HERE = {
    "seLinuxMount": "the bed's node has no SELinux",
    "snapshotMetadata": "its sidecar is not built for the bed",
    "volumeLimits": "the bed's node has no limit",
    "RWX": "of block volumes alone, and the tests mean file systems",
    "singleNodeVolume": "every node reaches every volume",
}
"""False in the file, with the reason; docs/conformance.md has it, too."""


def told() -> dict[str, Any]:
    driver: dict[str, Any] = yaml.safe_load(TEST_DRIVER.read_text())["DriverInfo"]
    return driver


def advertised() -> dict[str, bool]:
    of_controller = {*controller.CAPABILITIES, *listing.LISTING_CAPABILITIES}
    (driver,) = [one for one in objects(*EVERYTHING) if one["kind"] == "CSIDriver"]
    service = identity.IdentityService(identity.Identity("d", "v", has_topology=True), lambda: True)
    plugin = service.GetPluginCapabilities(
        pb.GetPluginCapabilitiesRequest(), cast("grpc.ServicerContext", None)
    ).capabilities
    kinds = {one.service.type for one in plugin if one.HasField("service")}
    growth = {one.volume_expansion.type for one in plugin if one.HasField("volume_expansion")}
    is_online = pb.PluginCapability.VolumeExpansion.ONLINE in growth
    return {
        "snapshotDataSource": _Controller.CREATE_DELETE_SNAPSHOT in of_controller,
        "pvcDataSource": _Controller.CLONE_VOLUME in of_controller,
        "controllerExpansion": _Controller.EXPAND_VOLUME in of_controller,
        "nodeExpansion": _Node.EXPAND_VOLUME in node.CAPABILITIES,
        "offlineExpansion": is_online,
        "onlineExpansion": is_online,
        "volumeMountGroup": _Node.VOLUME_MOUNT_GROUP in node.CAPABILITIES,
        "groupSnapshot": _Plugin.GROUP_CONTROLLER_SERVICE in kinds and bool(group_controller.CAPABILITIES),
        "topology": _Plugin.VOLUME_ACCESSIBILITY_CONSTRAINTS in kinds,
        "readWriteOncePod": _Controller.SINGLE_NODE_MULTI_WRITER in of_controller,
        "capacity": _Controller.GET_CAPACITY in of_controller and driver["spec"]["storageCapacity"],
        "fsGroup": driver["spec"]["fsGroupPolicy"] == "File",
    }


@pytest.mark.parametrize("name", sorted(told()["Capabilities"]))
def test_a_capability_that_the_tests_are_told_of_is_advertised(name: str) -> None:
    expected = {**dict.fromkeys(ALWAYS, True), **dict.fromkeys(NOT_HERE, False), **advertised()}
    assert told()["Capabilities"][name] == expected[name]


def test_the_tests_are_told_of_every_capability() -> None:
    assert set(told()["Capabilities"]) == {*ALWAYS, *NOT_HERE, *advertised()}


def test_the_tests_are_told_of_every_file_system() -> None:
    assert set(told()["SupportedFsType"]) == {"", *FILE_SYSTEMS}
