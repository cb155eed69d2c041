"""docs/conformance.md names every RPC of the contract, and every capability that the driver offers."""

import re
from pathlib import Path

import pytest

from csi_driver.pb import csi_pb2 as pb
from csi_driver.rpc import controller, listing, node, publication

_PAGE = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text()
_WORDS = frozenset(re.findall(r"\w+", _PAGE))
_CONTROLLER = (*controller.CAPABILITIES, *listing.LISTING_CAPABILITIES, *publication.PUBLICATION_CAPABILITIES)


@pytest.mark.parametrize("service", pb.DESCRIPTOR.services_by_name)
def test_every_rpc_is_on_the_page(service: str) -> None:
    """By its name, or in the row of its whole service."""
    if re.search(rf"^\| {service} \| all \|", _PAGE, re.MULTILINE):
        return
    methods = {method.name for method in pb.DESCRIPTOR.services_by_name[service].methods}
    assert methods - _WORDS - {f"{service}GetCapabilities"} == set()


def test_every_capability_that_is_offered_is_on_the_page() -> None:
    offered = {pb.ControllerServiceCapability.RPC.Type.Name(one) for one in _CONTROLLER}
    offered |= {pb.NodeServiceCapability.RPC.Type.Name(one) for one in node.CAPABILITIES}
    assert offered - _WORDS == set()
