"""Encrypted volumes whose keys a Vault keeps, on a kernel with dm-crypt."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from csi_driver.dev.layout import DevCeph
from tests import image_data
from tests.controller.calls import Calls
from tests.controller.test_copies import image_of
from tests.kms.vault import Vault
from tests.kubernetes_api import ApiServer
from tests.node.test_fencing import Node
from tests.node.test_sealed_mounts import PATTERN, stage, unstage
from tests.node.test_sealed_volumes import SIZE, node_with, refused_stage

pytestmark = pytest.mark.attacher("krbd", "nbd")


@pytest.fixture
def node(ceph_dev: DevCeph, vault: Vault, kubernetes: ApiServer, tmp_path: Path) -> Iterator[Node]:
    far = {
        "encryptionKMSType": "vault",
        "vaultAddress": vault.address,
        "vaultServiceAccountTokenFile": str(kubernetes.account / "token"),
    }
    with node_with({"far": far}, ceph_dev, tmp_path) as node:
        yield node


def test_a_volume_and_its_copy_are_opened_with_the_keys_that_vault_keeps(
    ceph_dev: DevCeph, node: Node, vault: Vault, attacher_name: str
) -> None:
    """No secret is asked for. While Vault is sealed nothing new is attached, and what is mounted goes on."""
    calls = Calls(node.driver.rpc, ceph_dev.secrets("provisioner"))
    in_vault = {"encrypted": "true", "encryptionKMSID": "far", "mounter": attacher_name}
    volume = calls.create_until_done("volume", SIZE, parameters=in_vault)
    mounted = stage(node, volume, {})
    (mounted / "secret").write_bytes(PATTERN)
    copy = calls.create_until_done("copy", 0, source=volume, parameters=in_vault)
    vault.seal()
    try:
        code, message = refused_stage(node, copy, {})
        assert (code, "vault" in message.lower()) == (grpc.StatusCode.UNAVAILABLE, True), message
        assert not list((node.directory / copy.volume_id[-12:]).iterdir())
        (mounted / "more").write_bytes(PATTERN)
        assert (mounted / "secret").read_bytes() == PATTERN
        unstage(node, volume)
    finally:
        vault.unseal()
    (stage(node, copy, {}) / "its own").write_bytes(PATTERN)
    unstage(node, copy)
    mounted = stage(node, volume, {})
    assert (mounted / "more").read_bytes() == PATTERN
    unstage(node, volume)
    for one in (volume, copy):
        with image_data.opened(ceph_dev, image_of(one), read_only=True) as image:
            assert PATTERN[:40] not in image.read(0, image.size())
        calls.delete_until_done(one.volume_id)
