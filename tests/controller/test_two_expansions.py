"""Two drivers that grow one volume: one at a time, whoever is paused or killed in between."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from csi_driver.ceph.api import Pool, Write
from csi_driver.dev.layout import DevCeph
from csi_driver.journal.layout import RESIZER, VOLUMES
from csi_driver.pb import csi_pb2 as pb
from tests import image_data
from tests.client import Refusal
from tests.controller.calls import UNFINISHED, Calls
from tests.controller.planting import image_named, uuid_of
from tests.fixtures.driver import StartDriver
from tests.rpc.valid_requests import GIB

pytestmark = pytest.mark.usefixtures("clean_pool")

_POINTS = ["journal.claim_resize:after", "images.grow:before", "images.grow:after", "journal.record_size:before"]


@pytest.mark.parametrize("point", _POINTS)
def test_who_is_paused_while_it_grows_an_image_is_waited_for_then_overtaken(
    ceph_dev: DevCeph, start_driver: StartDriver, pool: Pool, point: str
) -> None:
    """Its late resize is fenced: what was written beyond its size meanwhile stays."""
    secrets = ceph_dev.secrets("provisioner")
    slow = start_driver(
        "--controller", clusters=ceph_dev.config_json, environment={"RBD_CSI_FAILPOINTS": f"{point}=stop"}
    )
    quick = Calls(start_driver("--controller", clusters=ceph_dev.config_json, node_id="node-2").rpc, secrets)
    volume = quick.create("grown")
    with ThreadPoolExecutor(1) as thread:
        paused = thread.submit(Calls(slow.rpc, secrets).expand, volume.volume_id, 2 * GIB)
        slow.await_pause()
        for answer in (quick.expand(volume.volume_id, 3 * GIB), quick.delete(volume.volume_id)):
            assert isinstance(answer, Refusal)
            assert answer.code is grpc.StatusCode.ABORTED
            assert "is being expanded by another process" in answer.message
        _let_grace_time_pass(pool, volume)
        assert _expand_until_done(quick, volume, 3 * GIB) == 3 * GIB
        _write_at_end(ceph_dev, volume, 3 * GIB)
        slow.resume()
        late = paused.result(60)
    assert late == 3 * GIB or (isinstance(late, Refusal) and late.code in UNFINISHED)
    assert _expand_until_done(Calls(slow.rpc, secrets), volume, 2 * GIB) == 3 * GIB
    assert _is_written_at_end(ceph_dev, volume, 3 * GIB)
    assert RESIZER not in {key for key, text in _entry(pool, volume).items() if text}
    quick.delete_until_done(volume.volume_id)


@pytest.mark.parametrize("point", _POINTS)
def test_a_driver_that_is_killed_while_it_grows_an_image_goes_on_at_once_when_it_is_back(
    ceph_dev: DevCeph, start_driver: StartDriver, pool: Pool, point: str
) -> None:
    driver = start_driver(
        "--controller", clusters=ceph_dev.config_json, environment={"RBD_CSI_FAILPOINTS": f"{point}=kill"}
    )
    calls = Calls(driver.rpc, ceph_dev.secrets("provisioner"))
    volume = calls.create("grown")
    assert isinstance(calls.expand(volume.volume_id, 2 * GIB), Refusal)
    driver.await_death()
    driver.restart({})
    assert _expand_until_done(calls, volume, 2 * GIB) == 2 * GIB
    assert _entry(pool, volume)["size"] == str(2 * GIB)
    calls.delete_until_done(volume.volume_id)


def _expand_until_done(calls: Calls, volume: pb.Volume, size_bytes: int) -> int:
    while isinstance(answer := calls.expand(volume.volume_id, size_bytes), Refusal):
        assert answer.code in UNFINISHED, answer
    return answer


def _entry(pool: Pool, volume: pb.Volume) -> dict[str, str]:
    return pool.objects.read(VOLUMES.object(uuid_of(volume.volume_id))) or {}


def _let_grace_time_pass(pool: Pool, volume: pb.Volume) -> None:
    """As if the resize had been begun long ago."""
    address = _entry(pool, volume)[RESIZER].split()[0]
    pool.objects.apply(VOLUMES.object(uuid_of(volume.volume_id)), Write(put={RESIZER: f"{address} 0"}))


def _write_at_end(ceph: DevCeph, volume: pb.Volume, size_bytes: int) -> None:
    with image_data.opened(ceph, image_named(volume)) as image:
        image.write(b"at the end", size_bytes - 10)


def _is_written_at_end(ceph: DevCeph, volume: pb.Volume, size_bytes: int) -> bool:
    with image_data.opened(ceph, image_named(volume), read_only=True) as image:
        return bool(image.read(size_bytes - 10, 10) == b"at the end")
