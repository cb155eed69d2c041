"""GetMetadataAllocated and GetMetadataDelta: what the streams name is all that is needed to copy a snapshot."""

import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence

import grpc
import pytest

from csi_driver.ceph.image_diff import COMPARES_BY_ID
from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests import image_data
from tests.client import refusal_of
from tests.controller.calls import Calls
from tests.controller.group_calls import delete_group_until_done, group_until_done
from tests.controller.test_copies import image_of
from tests.driver import DriverProcess
from tests.fixtures.driver import StartDriver

pytestmark = pytest.mark.usefixtures("clean_pool")

MIB, GIB = 1 << 20, 1 << 30
SIZE = 32 * MIB
ROUNDS = int(os.environ.get("RBD_CSI_DELTA_ROUNDS", "3"))
SEED = int(os.environ.get("RBD_CSI_DELTA_SEED", "1"))

Message = pb.GetMetadataAllocatedResponse | pb.GetMetadataDeltaResponse


def allocated(calls: Calls, snapshot: pb.Snapshot, start: int = 0, most: int = 0) -> Iterator[Message]:
    request = pb.GetMetadataAllocatedRequest(
        snapshot_id=snapshot.snapshot_id, starting_offset=start, max_results=most, secrets=calls.secrets
    )
    return iter(calls.driver.metadata.GetMetadataAllocated(request, timeout=120))


def delta(calls: Calls, base: pb.Snapshot, target: pb.Snapshot, start: int = 0, most: int = 0) -> Iterator[Message]:
    request = pb.GetMetadataDeltaRequest(
        base_snapshot_id=base.snapshot_id,
        target_snapshot_id=target.snapshot_id,
        starting_offset=start,
        max_results=most,
        secrets=calls.secrets,
    )
    return iter(calls.driver.metadata.GetMetadataDelta(request, timeout=120))


def refused(stream: Callable[[], Iterator[Message]]) -> grpc.StatusCode:
    try:
        list(stream())
    except grpc.RpcError as error:
        return refusal_of(error).code
    raise AssertionError("the stream ended without an error")


def ranges(messages: Iterator[Message], size_bytes: int, most: int = 0) -> list[tuple[int, int]]:
    """Of a whole stream, whose form is looked at: ascending, apart, within the capacity that each message tells."""
    found: list[tuple[int, int]] = []
    count = 0
    for message in messages:
        count += 1
        assert (message.volume_capacity_bytes, message.block_metadata_type) == (size_bytes, pb.VARIABLE_LENGTH)
        assert not most or len(message.block_metadata) <= most
        found += [(one.byte_offset, one.size_bytes) for one in message.block_metadata]
    assert count
    ends = [at + length for at, length in found]
    assert all(length > 0 for _, length in found)
    assert all(end <= at for end, (at, _) in zip(ends, found[1:], strict=False))
    assert not ends or ends[-1] <= size_bytes
    return found


def applied(base: bytes, target: bytes, found: Sequence[tuple[int, int]]) -> bytes:
    """A copy of the base brought up to date by what the stream names."""
    copy = bytearray(base.ljust(len(target), b"\0")[: len(target)])
    for at, length in found:
        copy[at : at + length] = target[at : at + length]
    return bytes(copy)


def scribble(ceph: DevCeph, image: str, chance: random.Random) -> None:
    """Writes and discards, small and large, at odd places."""
    with image_data.opened(ceph, image) as opened:
        for _ in range(10):
            length = chance.choice((512, 4096, 70_000, 3 * MIB, 4 * MIB))
            at = chance.randrange(0, SIZE - length)
            if chance.random() < 0.4:
                opened.discard(at, length)
            else:
                opened.write(chance.randbytes(length), at)


def content(ceph: DevCeph, image: str) -> bytes:
    return image_data.read(ceph, image, SIZE)


@pytest.mark.parametrize("features", ["", "layering,exclusive-lock"], ids=["fast-diff", "without"])
@pytest.mark.parametrize("is_copy", [False, True], ids=["volume", "copy"])
def test_the_deltas_lead_from_snapshot_to_snapshot(
    calls: Calls, ceph_dev: DevCeph, features: str, is_copy: bool
) -> None:
    print(f"RBD_CSI_DELTA_SEED={SEED}")  # noqa: T201 - the test's report
    chance = random.Random(SEED)
    parameters = {"imageFeatures": features} if features else {}
    volumes = [calls.create("origin", SIZE, parameters=parameters)]
    if is_copy:
        scribble(ceph_dev, image_of(volumes[0]), chance)
        volumes.append(calls.create("copy", SIZE, source=volumes[0], parameters={**parameters, "flatten": "never"}))
    image = image_of(volumes[-1])
    cuts: list[tuple[pb.Snapshot, bytes]] = []
    for number in range(ROUNDS):
        scribble(ceph_dev, image, chance)
        cuts.append((calls.snapshot(f"cut-{number}", volumes[-1].volume_id), content(ceph_dev, image)))
    for snapshot, data in cuts:
        assert applied(bytes(SIZE), data, ranges(allocated(calls, snapshot), SIZE)) == data
    for first, (base, old) in enumerate(cuts):
        for target, new in cuts[first:]:
            assert applied(old, new, ranges(delta(calls, base, target), SIZE)) == new
    assert ranges(delta(calls, cuts[0][0], cuts[0][0]), SIZE) == []
    for snapshot, _ in cuts:
        calls.delete_snapshot_until_done(snapshot.snapshot_id)
    for volume in reversed(volumes):
        calls.delete_until_done(volume.volume_id)


def test_a_stream_is_cut_into_messages_and_taken_up_anywhere(calls: Calls, ceph_dev: DevCeph) -> None:
    volume = calls.create("paged", SIZE)
    for number in range(0, 8, 2):
        image_data.write(ceph_dev, image_of(volume), b"x", number * 4 * MIB)
    base = calls.snapshot("before", volume.volume_id)
    for number in range(1, 4, 2):
        image_data.write(ceph_dev, image_of(volume), b"y", number * 8 * MIB)
    target = calls.snapshot("after", volume.volume_id)
    whole = ranges(allocated(calls, base), SIZE)
    assert len(whole) == 4
    messages = list(allocated(calls, base, most=3))
    assert [len(message.block_metadata) for message in messages] == [3, 1]
    assert ranges(iter(messages), SIZE, most=3) == whole
    changed = ranges(delta(calls, base, target, most=1), SIZE, most=1)
    assert len(changed) == 2
    for at in (1, 4 * MIB, 8 * MIB - 1, 24 * MIB + 5, SIZE):
        resumed = ranges(delta(calls, base, target, start=at), SIZE)
        assert all(begin + length > at for begin, length in resumed)
        assert [begin + length for begin, length in resumed] == [b + n for b, n in changed if b + n > at]
    for snapshot in (base, target):
        calls.delete_snapshot_until_done(snapshot.snapshot_id)
    calls.delete_until_done(volume.volume_id)


def test_a_sparse_volume_of_100_gib_is_told_within_a_second(calls: Calls, ceph_dev: DevCeph) -> None:
    volume = calls.create("sparse", 100 * GIB)
    image_data.write(ceph_dev, image_of(volume), b"x", 3 * GIB)
    base = calls.snapshot("before", volume.volume_id)
    image_data.write(ceph_dev, image_of(volume), b"x", 90 * GIB)
    target = calls.snapshot("after", volume.volume_id)
    calls.delete_until_done(volume.volume_id)  # its snapshots live on
    took: list[float] = []
    for _ in range(5):  # other work on the machine may slow some of them
        began = time.monotonic()
        assert ranges(allocated(calls, target), 100 * GIB) == [(3 * GIB, 4 * MIB), (90 * GIB, 4 * MIB)]
        middle = time.monotonic()
        assert ranges(delta(calls, base, target), 100 * GIB) == [(90 * GIB, 4 * MIB)]
        took.append(max(middle - began, time.monotonic() - middle))
    print(f"100 GiB: {min(took):.3f} to {max(took):.3f} s")  # noqa: T201 - the test's report
    assert min(took) < 1.0
    for snapshot in (base, target):
        calls.delete_snapshot_until_done(snapshot.snapshot_id)


def test_what_cannot_be_told_is_refused(calls: Calls) -> None:
    volumes = [calls.create(f"told-{number}", 8 * MIB) for number in range(2)]
    first, second = (calls.snapshot(f"first-{number}", volumes[number].volume_id) for number in range(2))
    later = calls.snapshot("later", volumes[0].volume_id)
    fake = pb.Snapshot(snapshot_id="fake")
    code = grpc.StatusCode
    for stream, expected in (
        (lambda: allocated(calls, fake), code.NOT_FOUND),
        (lambda: allocated(calls, pb.Snapshot()), code.INVALID_ARGUMENT),
        (lambda: allocated(calls, first, most=-1), code.INVALID_ARGUMENT),
        (lambda: allocated(calls, first, start=-1), code.OUT_OF_RANGE),
        (lambda: allocated(calls, first, start=8 * MIB + 1), code.OUT_OF_RANGE),
        (lambda: delta(calls, fake, later), code.NOT_FOUND),
        (lambda: delta(calls, first, fake), code.NOT_FOUND),
        (lambda: delta(calls, pb.Snapshot(), later), code.INVALID_ARGUMENT),
        (lambda: delta(calls, second, later), code.INVALID_ARGUMENT),
        (lambda: delta(calls, later, first), code.INVALID_ARGUMENT),
        (lambda: delta(calls, first, later, start=8 * MIB + 1), code.OUT_OF_RANGE),
    ):
        assert refused(stream) is expected
    for snapshot in (first, second, later):
        calls.delete_snapshot_until_done(snapshot.snapshot_id)
    assert refused(lambda: allocated(calls, first)) is code.NOT_FOUND
    for volume in volumes:
        calls.delete_until_done(volume.volume_id)


def test_a_member_of_a_group_is_told_as_any_snapshot(calls: Calls, ceph_dev: DevCeph) -> None:
    """As a base only where the bindings take ids."""
    volume = calls.create("member", SIZE)
    image_data.write(ceph_dev, image_of(volume), b"old", 4 * MIB)
    base = calls.snapshot("before", volume.volume_id)
    image_data.write(ceph_dev, image_of(volume), b"new", 8 * MIB)
    group = group_until_done(calls, "told", [volume])
    (member,) = group.snapshots
    assert ranges(allocated(calls, member), SIZE) == [(4 * MIB, 8 * MIB)]
    assert ranges(delta(calls, base, member), SIZE) == [(8 * MIB, 4 * MIB)]
    later = calls.snapshot("later", volume.volume_id)
    if COMPARES_BY_ID:
        assert ranges(delta(calls, member, later), SIZE) == []
    else:
        assert refused(lambda: delta(calls, member, later)) is grpc.StatusCode.FAILED_PRECONDITION
    for snapshot in (base, later):
        calls.delete_snapshot_until_done(snapshot.snapshot_id)
    delete_group_until_done(calls, group)
    calls.delete_until_done(volume.volume_id)


def test_a_stream_that_fails_half_way_ends_with_an_error(ceph_dev: DevCeph, start_driver: StartDriver) -> None:
    """Else its reader would take it for complete."""
    driver: DriverProcess = start_driver(
        "--controller",
        clusters=ceph_dev.config_json,
        environment={"RBD_CSI_FAILPOINTS": "images.changed:before:2=error:5"},
    )
    calls = Calls(driver.rpc, ceph_dev.secrets("provisioner"))
    volume = calls.create("half", 100 * GIB)
    image_data.write(ceph_dev, image_of(volume), b"x", GIB)
    snapshot = calls.snapshot("half", volume.volume_id)
    stream = allocated(calls, snapshot, most=1)
    assert [one.byte_offset for one in next(stream).block_metadata] == [GIB]
    assert refused(lambda: stream) is grpc.StatusCode.UNAVAILABLE
    assert ranges(allocated(calls, snapshot), 100 * GIB) == [(GIB, 4 * MIB)]
    assert re.search(r"code=UNAVAILABLE .*method=GetMetadataAllocated", driver.log_text())
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    calls.delete_until_done(volume.volume_id)
