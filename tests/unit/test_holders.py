"""Who holds a device: told from directories that look like /proc and /sys."""

import os
from pathlib import Path

from csi_driver.host.holders import holders


def process(proc: Path, pid: int, name: str, namespace: str, *, mounts: str = "") -> None:
    entry = proc / str(pid)
    (entry / "fd").mkdir(parents=True)
    (entry / "ns").mkdir()
    (entry / "ns/mnt").symlink_to(f"mnt:[{namespace}]")
    (entry / "comm").write_text(f"{name}\n")
    (entry / "mountinfo").write_text(mounts)


def test_mounts_of_each_namespace_open_devices_and_mappers_are_named(tmp_path: Path) -> None:
    """/dev/null stands for the device."""
    status = Path("/dev/null").stat()
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    line = f"30 20 {number} / /mnt/data rw - ext4 /dev/rbd0 rw\n"
    process(tmp_path, 1, "systemd", "1")
    process(tmp_path, 70, "nginx", "2", mounts=line + "31 20 8:1 / /other rw - ext4 /dev/sda1 rw\n")
    process(tmp_path, 71, "nginx", "2", mounts=line)
    process(tmp_path, 80, "dd", "1")
    (tmp_path / "80/fd/3").symlink_to("/dev/null")
    (tmp_path / "80/fd/4").symlink_to("/dev/zero")
    above = tmp_path / f"dev/block/{number}/holders/dm-0/dm"
    above.mkdir(parents=True)
    (above / "name").write_text("luks-rbd-vol\n")
    assert holders(number, tmp_path, tmp_path) == [
        "device luks-rbd-vol",
        "mount /mnt/data as process 70 (nginx) sees it",
        "process 80 (dd)",
    ]


def test_nobody_and_many(tmp_path: Path) -> None:
    status = Path("/dev/null").stat()
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    assert holders(number, tmp_path, tmp_path) == []
    for pid in range(1, 9):
        process(tmp_path, pid, "dd", "1")
        (tmp_path / f"{pid}/fd/3").symlink_to("/dev/null")
    assert holders(number, tmp_path, tmp_path)[-2:] == ["process 5 (dd)", "and 3 more"]
