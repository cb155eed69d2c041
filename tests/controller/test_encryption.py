"""Encrypted volumes as the controller makes them: the marks of the Go driver, and copies that are what their source is."""

import grpc
import pytest

from csi_driver.ceph.api import Pool
from tests.client import Refusal
from tests.controller.calls import Calls, handle_parts

pytestmark = pytest.mark.usefixtures("clean_pool")

ENCRYPTED = {"encrypted": "true"}
STATE = "rbd.csi.ceph.com/encrypted"


def test_an_encrypted_volume_is_marked_as_the_go_driver_marks_it_and_its_copies_take_that_over(
    calls: Calls, pool: Pool
) -> None:
    made = calls.create("encrypted", parameters=ENCRYPTED)
    assert made.volume_context["encrypted"] == "true"
    uuid = handle_parts(made.volume_id)[2]
    keys = pool.objects.read(f"csi.volume.{uuid}") or {}
    assert (keys["csi.volume.encryptKMS"], keys["csi.volume.encryptionType"]) == ("default", "block")
    assert pool.images.get_metadata(f"csi-vol-{uuid}")[STATE] == "encryptionPrepared"
    snapshot = calls.snapshot_until_done("cut", made.volume_id)
    for source in (made, snapshot):
        copy = calls.create_until_done("copy", source=source, parameters=ENCRYPTED)
        image = f"csi-vol-{handle_parts(copy.volume_id)[2]}"
        assert pool.images.get_metadata(image)[STATE] == "encryptionPrepared"
        calls.delete_until_done(copy.volume_id)
        refused = calls.refused_at_last("plain", source=source)
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "encrypted" in refused.message
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    calls.delete_until_done(made.volume_id)


def test_a_plain_source_has_no_encrypted_copy(calls: Calls) -> None:
    made = calls.create("plain")
    refused = calls.refused_at_last("copy", source=made, parameters=ENCRYPTED)
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    calls.delete_until_done(made.volume_id)


@pytest.mark.parametrize(
    "given", [{"encrypted": "yes"}, {"encryptionType": "file"}, {"encrypted": "true", "encryptionKMSID": "vault"}]
)
def test_what_is_not_offered_is_refused_by_its_name(calls: Calls, given: dict[str, str]) -> None:
    answer = calls.try_create("refused", parameters=given)
    assert isinstance(answer, Refusal)
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert next(reversed(given)) in answer.message
