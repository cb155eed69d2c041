"""What the nbd attacher tells from sysfs and /proc, on directories that look like them; its devices need the VM."""

from dataclasses import replace
from pathlib import Path

import pytest

from csi_driver.addresses import Credentials, ImageAddress
from csi_driver.errors import InvalidRequest
from csi_driver.host.api import Attachment
from csi_driver.host.nbd import NbdAttacher
from csi_driver.host.nbd_devices import NbdDevices, cookie_of, volume_of

IMAGE = Attachment("vol", "rbd", "ns", "csi-vol-1", read_only=False)


def block(root: Path, number: int, **values: str) -> None:
    """A device as Linux 6.1 has it; without a connection it has neither pid nor backend."""
    entry = root / f"sys/block/nbd{number}"
    entry.mkdir(parents=True)
    for name, value in ({"dev": f"43:{number * 32}", "size": "2048", "ro": "0"} | values).items():
        (entry / name).write_text(f"{value}\n")


def program(root: Path, pid: int, *words: str) -> None:
    entry = root / f"proc/{pid}"
    entry.mkdir(parents=True)
    (entry / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))


def devices(root: Path) -> NbdDevices:
    return NbdDevices(root / "sys", root / "proc")


def test_a_device_is_found_by_the_program_that_connected_it(tmp_path: Path) -> None:
    block(tmp_path, 0)
    block(tmp_path, 1, pid="7")
    block(tmp_path, 10, pid="8")
    block(tmp_path, 11, pid="9")
    program(tmp_path, 7, "rbd-nbd", "map", "rbd/csi-vol-1")
    program(tmp_path, 8, "/usr/bin/rbd-nbd", "map", "rbd/ns/csi-vol-1", "--conf", "/dev/null")
    (one,) = devices(tmp_path).connected(IMAGE)
    assert (str(one.device.path), one.device.number, one.device.size_bytes, one.pid) == (
        "/dev/nbd10",
        "43:320",
        1 << 20,
        8,
    )


@pytest.mark.parametrize(
    "words",
    [
        ("rbd-nbd", "map"),
        ("rbd-nbd", "map", "rbd/csi-vol-1"),
        ("rbd-nbd", "map", "rbd/ns/csi-vol-10"),
        ("rbd-nbd", "unmap", "rbd/ns/csi-vol-1"),
        ("cat", "map", "rbd/ns/csi-vol-1"),
    ],
)
def test_no_other_program_is_taken_for_an_images(tmp_path: Path, words: tuple[str, ...]) -> None:
    program(tmp_path, 9, *words)
    program(tmp_path, 10)
    assert devices(tmp_path).servers(IMAGE) == []


def test_a_device_of_other_rights_is_not_it(tmp_path: Path) -> None:
    """Of the image all the same, so that it is cleared away before it is mapped anew."""
    block(tmp_path, 0, pid="9")
    program(tmp_path, 9, "rbd-nbd", "attach", "rbd/ns/csi-vol-1", "--cookie", "vol", "--read-only")
    (server,) = devices(tmp_path).servers(IMAGE)
    assert server.is_read_only
    assert NbdAttacher(tmp_path / "run", devices(tmp_path)).find(IMAGE) is None


def test_a_program_of_the_go_driver_is_one_that_serves(tmp_path: Path) -> None:
    block(tmp_path, 3, pid="8", backend="vol")
    program(tmp_path, 8, "rbd-nbd", "--id", "node", "-m", "10.0.0.1", "--try-netlink", "map", "rbd/ns/csi-vol-1")
    assert devices(tmp_path).lost(IMAGE) == []
    assert [one.pid for one in devices(tmp_path).connected(IMAGE)] == [8]


def test_a_device_that_another_program_has_taken_on_is_its(tmp_path: Path) -> None:
    """Sysfs goes on naming the one before."""
    block(tmp_path, 3, pid="8", backend="vol")
    block(tmp_path, 4, pid="9", backend="other")
    program(tmp_path, 20, "rbd-nbd", "attach", "rbd/ns/csi-vol-1", "--device", "/dev/nbd3", "--cookie", "vol")
    (one,) = devices(tmp_path).connected(IMAGE)
    assert str(one.device.path) == "/dev/nbd3"
    assert devices(tmp_path).lost(IMAGE) == []
    assert devices(tmp_path).lost_volumes() == ["other"]


def test_a_device_whose_program_has_ended_is_known_by_its_cookie(tmp_path: Path) -> None:
    block(tmp_path, 3, pid="8", backend="vol", ro="1")
    block(tmp_path, 4, pid="9", backend="other")
    block(tmp_path, 5)
    program(tmp_path, 9, "rbd-nbd", "map", "rbd/ns/csi-vol-2")
    (one,) = devices(tmp_path).lost(IMAGE)
    assert (str(one.device.path), one.is_read_only) == ("/dev/nbd3", True)
    assert devices(tmp_path).lost_volumes() == ["vol"]
    attacher = NbdAttacher(tmp_path / "run", devices(tmp_path))
    assert attacher.recovery.is_lost(IMAGE)
    assert attacher.find(IMAGE) is None
    assert "/dev/nbd3 waits" in (attacher.why_dead(IMAGE) or "")


def test_an_image_that_no_journal_knows_is_known_by_its_pool_and_name() -> None:
    """Its id is its name, which is the only one of its pool alone."""
    assert cookie_of(IMAGE) == "vol"
    static = replace(IMAGE, volume_id="csi-vol-1")
    assert cookie_of(static) == "rbd/ns/csi-vol-1"
    assert [volume_of(cookie_of(one)) for one in (IMAGE, static)] == ["vol", "csi-vol-1"]


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    attacher = NbdAttacher(tmp_path / "run", devices(tmp_path))
    assert attacher.find(IMAGE) is None
    attacher.detach(IMAGE, ())


@pytest.mark.parametrize(
    "option", ["device=/dev/nbd1", "cookie=other", "io-timeout=soon", "keyring=/etc/ceph/keyring", "rbd_cache=a b", ""]
)
def test_options_that_say_who_and_where_are_refused(tmp_path: Path, option: str) -> None:
    address = ImageAddress(("127.0.0.1",), Credentials("user", "key"), "rbd", "ns", "csi-vol-1")
    with pytest.raises(InvalidRequest, match="mapOptions"):
        NbdAttacher(tmp_path / "run", devices(tmp_path)).attach(IMAGE, address, [option])
    with pytest.raises(InvalidRequest, match="unmapOptions"):
        NbdAttacher(tmp_path / "run", devices(tmp_path)).detach(IMAGE, ["force"])
