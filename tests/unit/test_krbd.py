"""What the krbd attacher tells from sysfs, on directories that look like it; the kernel's own are for the virtual machine."""

import os
from pathlib import Path

import pytest

from csi_driver.errors import InvalidRequest
from csi_driver.host.api import Attachment
from csi_driver.host.krbd import KrbdAttacher
from csi_driver.host.krbd_devices import KrbdDevices
from csi_driver.host.pod_limits import CgroupLimits
from csi_driver.model import ImageTraits
from csi_driver.mutable import DeviceLimits

IMAGE = Attachment("vol", "rbd", "", "csi-vol-1", read_only=False)


def mapped(root: Path, number: int, **changes: str) -> None:
    """An entry as Linux 6.1 has it."""
    entry, block = root / f"bus/rbd/devices/{number}", root / f"block/rbd{number}"
    values = {
        "pool": "rbd",
        "pool_ns": "",
        "name": "csi-vol-1",
        "current_snap": "-",
        "major": "254",
        "minor": str(number * 16),
        "ro": "0",
        "size": "2048",
    } | changes
    entry.mkdir(parents=True)
    block.mkdir(parents=True)
    for name, value in values.items():
        ((block if name in ("ro", "size") else entry) / name).write_text(f"{value}\n")


def attacher(root: Path) -> KrbdAttacher:
    return KrbdAttacher(root / "run", KrbdDevices(root))


def test_a_mapped_image_is_found_with_its_number_and_size(tmp_path: Path) -> None:
    mapped(tmp_path, 0, name="another")
    mapped(tmp_path, 11)
    device = attacher(tmp_path).find(IMAGE)
    assert device
    assert (tmp_path / "bus/rbd/devices/11/refresh").read_text() == "1"
    assert (str(device.path), device.number, device.size_bytes) == ("/dev/rbd11", "254:176", 1 << 20)


@pytest.mark.parametrize(
    "other",
    [
        {"pool": "second"},
        {"pool_ns": "ns"},
        {"name": "csi-vol-10"},
        {"current_snap": "snap"},
        {"ro": "1"},
    ],
)
def test_another_image_a_snapshot_or_a_device_of_other_rights_is_not_it(tmp_path: Path, other: dict[str, str]) -> None:
    mapped(tmp_path, 0, **other)
    assert attacher(tmp_path).find(IMAGE) is None


def test_an_entry_that_goes_while_it_is_read_is_not_there(tmp_path: Path) -> None:
    mapped(tmp_path, 0)
    (tmp_path / "block/rbd0/size").unlink()
    assert attacher(tmp_path).find(IMAGE) is None


@pytest.mark.parametrize(
    ("known", "features", "unknown"),
    [
        ("0x1bf", ("layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten", "data-pool"), ()),
        ("0x1bf", ("layering", "exclusive-lock", "journaling"), ("journaling",)),
        ("0x5", ("layering", "exclusive-lock", "object-map", "fast-diff"), ("object-map", "fast-diff")),
        ("", ("layering", "exclusive-lock", "object-map"), ("object-map",)),
        ("0x1bf", ("layering", "a-new-one"), ("a-new-one",)),
    ],
)
def test_a_feature_that_the_kernel_lacks_is_named_with_kernel_and_parameter(
    tmp_path: Path, known: str, features: tuple[str, ...], unknown: tuple[str, ...]
) -> None:
    (tmp_path / "bus/rbd").mkdir(parents=True)
    if known:
        (tmp_path / "bus/rbd/supported_features").write_text(f"{known}\n")
    said = attacher(tmp_path).refusal(ImageTraits(features))
    if not unknown:
        assert said is None
        return
    assert said
    assert os.uname().release in said
    assert f"know the image's {', '.join(unknown)}:" in said
    assert "imageFeatures" in said


@pytest.mark.parametrize("option", ["secret=abc", "name=admin", "key=client.admin", "noudev", "a b", "a=b,c", "", "A"])
def test_options_that_name_another_user_or_none_are_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(InvalidRequest, match="unmapOptions"):
        attacher(tmp_path).detach(IMAGE, [option])


def test_a_volume_with_limits_is_refused_where_no_pod_gets_them(tmp_path: Path) -> None:
    (tmp_path / "bus/rbd").mkdir(parents=True)
    (tmp_path / "bus/rbd/supported_features").write_text("0x1bf\n")
    limited = ImageTraits(("layering",), DeviceLimits(read_iops=5))
    cgroups = tmp_path / "cgroup"
    (cgroups / "kubepods").mkdir(parents=True)
    (cgroups / "cgroup.controllers").write_text("cpu memory\n")
    krbd = KrbdAttacher(tmp_path, KrbdDevices(tmp_path), limits=CgroupLimits(cgroups))
    assert "limits" in (krbd.refusal(limited) or "")
    (cgroups / "cgroup.controllers").write_text("cpu io memory\n")
    assert krbd.refusal(limited) is None


def test_a_machine_without_the_module_says_so(tmp_path: Path) -> None:
    reason = attacher(tmp_path).unavailable_reason()
    assert reason
    assert "no module rbd" in reason
