"""The krbd attacher on a kernel that has it: secrets, refusals, devices held or cut off."""

import os
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from csi_driver.addresses import Credentials, ReadAffinity
from csi_driver.errors import AccessDenied, ClusterUnavailable, InUse, InvalidRequest, NotFound, Unauthenticated
from csi_driver.host.krbd import KrbdAttacher
from csi_driver.host.krbd_devices import KrbdDevices
from csi_driver.model import ImageTraits
from csi_driver.operations.crush_location import CrushLocation
from tests.node.bench import BLOCK, KINDS, MIB, SIZE_MIB, Bench

pytestmark = pytest.mark.attacher("krbd")


def test_the_key_is_in_no_file_of_the_driver_or_of_the_kernel(bench: Bench) -> None:
    """Nor in an argument, which is watched for while the volume is staged."""
    volume_id = bench.new_volume()
    key = bench.ceph.keys[bench.user].encode()
    seen, ended = [], threading.Event()

    def watch() -> None:
        while not ended.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    words = path.read_bytes()
                except OSError:
                    continue
                if words.startswith(b"rbd\0"):
                    seen.append(words)

    watcher = threading.Thread(target=watch)
    watcher.start()
    bench.stage(volume_id)
    ended.set()
    watcher.join()
    assert any(b"map" in words for words in seen)
    assert not [words for words in seen if key in words]
    files = [path for path in bench.directory.rglob("*") if path.is_file()]
    files += [path for path in Path("/sys/bus/rbd/devices").glob("*/*") if path.is_file() and path.name != "refresh"]
    assert [path for path in files if key in path.read_bytes()] == []
    assert key not in Path("/proc/keys").read_bytes()


def test_reads_from_the_nearest_replica_are_asked_for_where_the_cluster_wants_them(bench: Bench) -> None:
    """In the kernel's own words about the mapping; and what is read is right."""
    volume_id = bench.new_volume()
    bench.write(volume_id, 0, b"near")
    directory = Path(bench.setting.run_directory)
    attacher = KrbdAttacher(directory, crush_location=CrushLocation({"rack": "r-1", "host": "h"}, dict).by)
    address = replace(bench.address(volume_id), read_affinity=ReadAffinity())
    device = attacher.attach(bench.attachment(volume_id), address, ())
    config = Path(f"/sys/bus/rbd/devices/{device.path.name.removeprefix('rbd')}/config_info").read_text()
    assert "read_from_replica=localize" in config
    assert "crush_location=host:h|rack:r-1" in config
    assert device.path.read_bytes()[:4] == b"near"
    attacher.detach(bench.attachment(volume_id), ())


@pytest.mark.parametrize("form", ["{0}", "{0}:6789", "v1:{0}:6789", "[v2:{0}:3300,v1:{0}:6789]"])
def test_every_form_of_a_monitors_address_is_understood(bench: Bench, form: str) -> None:
    volume_id = bench.new_volume()
    address = replace(bench.address(volume_id), monitors=(form.format(bench.ceph.address),))
    attacher, attachment = bench.setting.attacher(), bench.attachment(volume_id)
    assert attacher.attach(attachment, address, ()).size_bytes == SIZE_MIB * MIB
    assert attacher.attach(attachment, address, ()) == attacher.find(attachment)
    attacher.detach(attachment, ())


def test_what_the_cluster_or_the_kernel_refuses_is_told_apart(bench: Bench) -> None:
    volume_id = bench.new_volume()
    attacher, attachment, address = bench.setting.attacher(), bench.attachment(volume_id), bench.address(volume_id)
    other = Credentials(bench.user, bench.ceph.keys["provisioner"])
    with pytest.raises(Unauthenticated):
        attacher.attach(attachment, replace(address, credentials=other), ())
    with pytest.raises((AccessDenied, NotFound)):
        attacher.attach(attachment, replace(address, credentials=Credentials("ns", bench.ceph.keys["ns"])), ())
    with pytest.raises(NotFound):
        attacher.attach(replace(attachment, image="no-such-image"), address, ())
    with pytest.raises(NotFound):
        attacher.attach(replace(attachment, pool="no-such-pool"), address, ())
    with pytest.raises(InvalidRequest, match="no_such_option"):
        attacher.attach(attachment, address, ("no_such_option",))
    with pytest.raises(ClusterUnavailable, match=r"127\.0\.0\.9"):
        attacher.attach(attachment, replace(address, monitors=("127.0.0.9",)), ())
    assert bench.traces.attached() == []


def test_an_image_with_a_feature_that_the_kernel_lacks_is_not_mapped(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.ceph.rbd("feature", "enable", bench.image(volume_id), "journaling")
    attacher = bench.setting.attacher()
    with pytest.raises(InUse, match="feature"):
        attacher.attach(bench.attachment(volume_id), bench.address(volume_id), ())
    said = attacher.refusal(ImageTraits(("layering", "journaling")))
    assert said
    assert "journaling" in said
    bench.ceph.rbd("feature", "disable", bench.image(volume_id), "journaling")


def test_an_image_in_a_rados_namespace_is_mapped(bench: Bench) -> None:
    bench.setting = replace(bench.setting, pool="second", rados_namespace="ns")
    bench.user = "ns"
    volume_id = bench.new_volume()
    bench.restart()
    bench.stage(volume_id, BLOCK)
    assert KrbdDevices().mapped()[0].spec == f"second/ns/{volume_id}"
    bench.unstage(volume_id)


def test_an_unstage_that_cannot_end_names_who_has_the_device(bench: Bench) -> None:
    """A program that has it open, and a mount in another mount namespace; then it ends."""
    volume_id = bench.new_volume()
    bench.stage(volume_id, BLOCK)
    device = bench.device_of(volume_id)
    with device.open("rb"):
        said = bench.message(bench.node.NodeUnstageVolume, bench.unstage_request(volume_id))
        assert "python" in said
        assert "process" in said
    bench.unstage(volume_id)
    bench.stage(volume_id, KINDS["ext4"])
    # at another path: removing the staging path takes away what is mounted on it in every namespace
    script = f"mount --bind {bench.staging(volume_id) / volume_id} /mnt && echo there && exec sleep 600"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == b"there\n"
            said = bench.message(bench.node.NodeUnstageVolume, bench.unstage_request(volume_id))
            assert "mount /mnt as process" in said
        finally:
            holder.kill()
    bench.unstage(volume_id)


def test_a_volume_that_was_cut_off_is_staged_anew_beside_another_of_the_same_client(bench: Bench) -> None:
    """The kernel's client, which the cluster refuses, is not taken again while the other volume keeps it alive."""
    volume_id, other = bench.new_volume(), bench.new_volume()
    bench.stage(volume_id, BLOCK)
    bench.stage(other, BLOCK)
    device = bench.device_of(volume_id)
    assert bench.setting.attacher().why_dead(bench.attachment(volume_id)) is None
    bench.kill_device(volume_id)
    assert bench.setting.attacher().find(bench.attachment(volume_id)) is None
    why = bench.setting.attacher().why_dead(bench.attachment(volume_id))
    assert why == f"{device} fails: Ceph has this node's client on its blocklist"
    with device.open("wb", buffering=0) as dead:
        dead.write(b"lost" * 128)
        with pytest.raises(OSError, match=r"Input/output|shutdown"):
            os.fsync(dead.fileno())
    bench.stage(volume_id, BLOCK)
    with bench.device_of(volume_id).open("rb") as alive:
        assert alive.read(4096) == bytes(4096)
