"""Growth of a mounted ext4, which needs a capability that not every sandbox gives root; the virtual machine does."""

import pytest

from csi_driver.pb import csi_pb2 as pb
from tests.node.bench import MIB, SIZE_MIB, Bench

pytestmark = pytest.mark.attacher("krbd", "nbd")


@pytest.mark.smoke
def test_an_ext4_grows_while_it_is_published(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    target = bench.publish(volume_id)
    (target / "before").write_text("kept")
    bench.resize(volume_id, 2 * SIZE_MIB)
    grow = pb.NodeExpandVolumeRequest(volume_id=volume_id, volume_path=str(target))
    assert bench.node.NodeExpandVolume(grow).capacity_bytes == 2 * SIZE_MIB * MIB
    stats = pb.NodeGetVolumeStatsRequest(volume_id=volume_id, volume_path=str(target))
    assert bench.node.NodeGetVolumeStats(stats).usage[0].total > 1.7 * SIZE_MIB * MIB
    assert (target / "before").read_text() == "kept"
    (target / "after").write_bytes(b"x" * 8 * MIB)
