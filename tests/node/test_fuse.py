"""The fuse attacher by itself: secrets, addresses, namespaces, and what it says when the cluster does not want it."""

import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from csi_driver.addresses import Credentials
from csi_driver.errors import AccessDenied, ClusterUnavailable, InvalidRequest, NotFound, Unauthenticated
from csi_driver.host.fuse import FuseAttacher
from tests.node.bench import MIB, SIZE_MIB, Bench

pytestmark = pytest.mark.attacher("fuse")


def test_the_key_is_in_no_file_argument_or_environment(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    bench.publish(volume_id)
    key = bench.ceph.keys[bench.user].encode()
    (daemon,) = bench.daemons()
    for name in ("cmdline", "environ"):
        assert key not in Path(f"/proc/{daemon}/{name}").read_bytes()
    files = [
        path
        for below in (Path(bench.setting.run_directory), bench.staging(volume_id))
        for path in below.rglob("*")
        if path.is_file() and path.name != "disk"
    ]
    assert {"image.json", "ceph.conf", "image-meta.json", "publications.json"} <= {path.name for path in files}
    assert [path for path in files if key in path.read_bytes()] == []


def test_run_files_are_for_the_owner_alone(bench: Bench) -> None:
    bench.stage(bench.new_volume())
    (directory,) = Path(bench.setting.run_directory).iterdir()
    assert directory.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("form", ["{0}", "{0}:3300", "{0}:6789", "v1:{0}:6789", "[v2:{0}:3300,v1:{0}:6789]"])
def test_every_form_of_a_monitors_address_is_understood(bench: Bench, form: str) -> None:
    """Whatever the clusters file of an existing deployment says."""
    volume_id = bench.new_volume()
    address = replace(bench.address(volume_id), monitors=(form.format(bench.ceph.address),))
    attacher, attachment = bench.setting.attacher(), bench.attachment(volume_id)
    assert attacher.attach(attachment, address, ()).size_bytes == SIZE_MIB * MIB
    attacher.detach(attachment, ())


def test_a_second_monitor_serves_when_the_first_is_away(bench: Bench) -> None:
    volume_id = bench.new_volume()
    monitors = ("127.0.0.254:6789", f"{bench.ceph.address}:6789")
    attacher, attachment = bench.setting.attacher(), bench.attachment(volume_id)
    attacher.attach(attachment, replace(bench.address(volume_id), monitors=monitors), ())
    attacher.detach(attachment, ())


def test_an_image_in_a_rados_namespace_is_attached(bench: Bench) -> None:
    """By a user that may see nothing else."""
    bench.user = "ns"
    bench.restart(pool="second", rados_namespace="ns")
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    (bench.staging(volume_id) / volume_id / "file").write_text("there")
    daemons = bench.daemons()
    bench.stage(volume_id)
    assert bench.daemons() == daemons
    bench.resize(volume_id, 400)
    assert bench.setting.attacher().refresh_size(bench.attachment(volume_id), 0).size_bytes == 400 * MIB


def test_the_same_name_in_two_places_is_two_images(bench: Bench) -> None:
    """A device is this image's by pool and namespace, too."""
    volume_id = bench.new_volume()
    attacher, here = bench.setting.attacher(), bench.attachment(volume_id)
    attacher.attach(here, bench.address(volume_id), ())
    assert attacher.find(here)
    assert attacher.find(replace(here, pool="second")) is None
    assert attacher.find(replace(here, rados_namespace="ns")) is None
    assert attacher.find(replace(here, read_only=True)) is None
    assert attacher.find(replace(here, volume_id="other")) is None
    attacher.detach(here, ())
    assert attacher.find(here) is None


@pytest.mark.parametrize("field", ["image", "pool", "rados_namespace"])
def test_an_image_that_is_not_there_is_not_found_and_leaves_nothing(bench: Bench, field: str) -> None:
    volume_id = bench.new_volume()
    bench.user = "admin"
    change: dict[str, Any] = {field: "not-there"}
    attachment = replace(bench.attachment(volume_id), **change)
    with pytest.raises(NotFound):
        bench.setting.attacher().attach(attachment, bench.address(volume_id), ())
    assert bench.leftovers() == []


@pytest.mark.parametrize(
    ("credentials", "error"),
    [
        (Credentials("node", "AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA=="), Unauthenticated),
        (Credentials("node", "AAAA"), Unauthenticated),
        (Credentials("node", "not base64!"), Unauthenticated),
        (Credentials("nobody", "AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA=="), Unauthenticated),
    ],
)
def test_credentials_that_are_not_accepted_leave_nothing(
    bench: Bench, credentials: Credentials, error: type[Exception]
) -> None:
    volume_id = bench.new_volume()
    address = replace(bench.address(volume_id), credentials=credentials)
    with pytest.raises(error) as refused:
        bench.setting.attacher().attach(bench.attachment(volume_id), address, ())
    assert credentials.key not in str(refused.value)
    assert bench.leftovers() == []


def test_a_user_without_the_right_is_told_so(bench: Bench) -> None:
    """client.ns may see one namespace of another pool only."""
    volume_id = bench.new_volume()
    bench.user = "ns"
    with pytest.raises(AccessDenied):
        bench.setting.attacher().attach(bench.attachment(volume_id), bench.address(volume_id), ())
    assert bench.leftovers() == []


def test_a_cluster_that_does_not_answer_is_unavailable_in_time(bench: Bench) -> None:
    """The next call clears away what this one left."""
    volume_id = bench.new_volume()
    attacher, attachment = bench.setting.attacher(), bench.attachment(volume_id)
    began = time.monotonic()
    with pytest.raises(ClusterUnavailable):
        attacher.attach(attachment, replace(bench.address(volume_id), monitors=("127.0.0.254:6789",)), ())
    assert time.monotonic() - began < 20
    attacher.attach(attachment, bench.address(volume_id), ())
    attacher.detach(attachment, ())


def test_options_reach_librbd_and_nothing_else_does(bench: Bench) -> None:
    volume_id = bench.new_volume()
    attacher, attachment = bench.setting.attacher(), bench.attachment(volume_id)
    attacher.attach(attachment, bench.address(volume_id), ("rbd_cache=false",))
    (conf,) = Path(bench.setting.run_directory).glob("*/ceph.conf")
    assert "rbd_cache = false\n" in conf.read_text()
    attacher.detach(attachment, ())
    for option in ("keyring=/etc/passwd", "rbd_cache", "rbd_cache=a\nkey = b", "admin_socket=/x"):
        with pytest.raises(InvalidRequest):
            attacher.attach(attachment, bench.address(volume_id), (option,))


def test_a_run_directory_too_long_for_sockets_is_refused_at_once() -> None:
    with pytest.raises(InvalidRequest, match="too long"):
        FuseAttacher(Path("/run") / ("x" * 80))


def test_a_detach_waits_for_who_has_the_device_open(bench: Bench) -> None:
    """The daemon lives on until then: nobody's write is cut off."""
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    bench.unstage(volume_id)
    attacher, attachment = bench.setting.attacher(), bench.attachment(volume_id)
    device = attacher.attach(attachment, bench.address(volume_id), ())
    opened = os.open(device.path, os.O_RDWR)
    os.write(opened, bytes(512))
    closing = time.monotonic() + 1

    def write_and_close() -> None:
        os.write(opened, bytes(512))
        os.fsync(opened)
        os.close(opened)

    closer = threading.Timer(1, write_and_close)
    closer.start()
    attacher.detach(attachment, ())
    assert time.monotonic() >= closing - 0.1
    closer.join()
