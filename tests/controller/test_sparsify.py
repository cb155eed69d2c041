"""`rbd-csi volume sparsify`: zeros come back to the pool, and what is read stays as it is."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests import image_data, volume_command
from tests.controller.calls import Calls
from tests.controller.test_copies import image_of
from tests.fixtures.driver import StartDriver

pytestmark = pytest.mark.usefixtures("clean_pool")

MIB = 1 << 20
OBJECT = 4 * MIB
SIZE = 8 * OBJECT
DATA = bytes(range(1, 251)) * (OBJECT // 250 + 1)


@pytest.fixture
def calls(ceph_dev: DevCeph, start_driver: StartDriver) -> Calls:
    driver = start_driver("--controller", clusters=ceph_dev.config_json)
    return Calls(driver.rpc, ceph_dev.secrets("provisioner"))


def sparsify(ceph: DevCeph, volume: pb.Volume) -> None:
    ended = volume_command.run(ceph.config_json, "sparsify", volume.volume_id)
    assert (ended.code, ended.out, ended.err) == (0, f"{volume.volume_id}: sparsified\n", "")


def stored_bytes(ceph: DevCeph, volume: pb.Volume) -> int:
    """Without what is read of a parent."""
    stored = []
    with image_data.opened(ceph, image_of(volume), read_only=True) as image:
        image.diff_iterate(0, SIZE, None, lambda _at, length, exists: stored.append(length * exists), False)
    return sum(stored)


@contextmanager
def writer(ceph: DevCeph, volume: pb.Volume) -> Iterator[None]:
    """A client that has the image's lock, before and after."""
    with image_data.opened(ceph, image_of(volume)) as image:
        image.write(b"before", 6 * OBJECT)
        image.flush()
        yield
        image.write(b"after", 7 * OBJECT)
        image.flush()
        assert image.read(6 * OBJECT, 6) == b"before"


@pytest.mark.parametrize("in_use", [False, True], ids=["unused", "in use"])
def test_zeros_come_back_and_data_stays(ceph_dev: DevCeph, calls: Calls, *, in_use: bool) -> None:
    """Whole objects of zeros, and the rest of one that holds something; a second time there is nothing left to do."""
    volume = calls.create("holes", SIZE)
    zeros_behind = DATA[: OBJECT // 2] + bytes(OBJECT // 2)
    image_data.write(ceph_dev, image_of(volume), zeros_behind + bytes(3 * OBJECT) + DATA[:OBJECT])
    assert stored_bytes(ceph_dev, volume) == 5 * OBJECT
    with writer(ceph_dev, volume) if in_use else nullcontext():
        for _ in range(2):
            sparsify(ceph_dev, volume)
            assert OBJECT * 3 // 2 <= stored_bytes(ceph_dev, volume) <= OBJECT * 3 // 2 + OBJECT // 8
    wanted = zeros_behind + bytes(3 * OBJECT) + DATA[:OBJECT]
    assert image_data.read(ceph_dev, image_of(volume), len(wanted)) == wanted
    calls.delete_until_done(volume.volume_id)


def test_zeros_over_what_a_copy_reads_of_its_source_stay(ceph_dev: DevCeph, calls: Calls) -> None:
    source = calls.create("source", SIZE)
    image_data.write(ceph_dev, image_of(source), DATA[:OBJECT] * 2)
    copy = calls.create("copy", SIZE, source=source)
    image_data.write(ceph_dev, image_of(copy), bytes(OBJECT))
    sparsify(ceph_dev, copy)
    assert image_data.read(ceph_dev, image_of(copy), 2 * OBJECT) == bytes(OBJECT) + DATA[:OBJECT]
    sparsify(ceph_dev, source)
    assert image_data.read(ceph_dev, image_of(copy), 2 * OBJECT) == bytes(OBJECT) + DATA[:OBJECT]
    for volume in (copy, source):
        calls.delete_until_done(volume.volume_id)


def test_what_is_no_living_volume_is_told_in_one_line(ceph_dev: DevCeph, calls: Calls) -> None:
    volume = calls.create("gone", SIZE)
    calls.delete_until_done(volume.volume_id)
    for handle, code, said in (
        ("no-handle", 2, "'no-handle' is not a volume's handle"),
        (volume.volume_id, 1, f"there is no volume '{volume.volume_id}'"),
        (volume.volume_id.replace("-dev-", "-new-"), 2, "clusterID 'new' is not in the clusters file"),
    ):
        ended = volume_command.run(ceph_dev.config_json, "sparsify", handle)
        assert (ended.code, ended.out) == (code, ""), ended
        assert ended.err.startswith("rbd-csi: ")
        assert said in ended.err
        assert ended.err.count("\n") == 1
