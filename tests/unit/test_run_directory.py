"""What killed runs of the tests have left is cleared away, mounts and all."""

from pathlib import Path

from csi_driver.host.commands import run
from tests.fixtures.run_directory import clear_away


def test_a_directory_with_a_mount_in_it_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / "left"
    outer, inner = left / "mounted", left / "mounted" / "inner"
    for target in (outer, inner):
        target.mkdir(parents=True)
        run(("mount", "-t", "tmpfs", "tmpfs", str(target)), timeout_s=10)
    clear_away(left)
    assert not left.exists()
    assert str(left) not in Path("/proc/self/mountinfo").read_text()
