"""A client that is killed while an OSD is about to write down its watch.

As a program: `python -m tests.dying_watcher CONF POOL OBJECT` connects, prints its address, waits for a line and watches.
"""

import subprocess
import sys
import time
from pathlib import Path

from csi_driver.dev.layout import DevCeph
from tests.osd import stopped_osd

_ESTABLISHED = "01"


def leave_a_watch(ceph: DevCeph, obj: str, pool: str = "rbd") -> str:
    """A watch on the object that nothing times out; the address of its client, which is dead."""
    command = (sys.executable, "-m", "tests.dying_watcher", str(ceph.conf), pool, obj)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin
        assert client.stdout
        address = client.stdout.readline().strip()
        assert address, "the client did not connect"
        with stopped_osd(ceph):
            client.stdin.write("\n")
            client.stdin.flush()
            _await_unread_bytes(client.pid)
            client.kill()
            client.wait()
    return address


def _await_unread_bytes(pid: int) -> None:
    """Until the kernel holds bytes that this process has sent and its peer has not read."""
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        inodes = {link.name for link in map(Path.readlink, _descriptors(pid)) if link.name.startswith("socket:")}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        own = {row[1] for row in rows if f"socket:[{row[9]}]" in inodes}
        if any(row[2] in own and row[3] == _ESTABLISHED and not row[4].endswith(":00000000") for row in rows):
            return
        time.sleep(0.01)
    raise AssertionError("the client did not send its watch")


def _descriptors(pid: int) -> list[Path]:
    return [path for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]


def main() -> None:
    conf, pool, obj = sys.argv[1:]
    import rados  # noqa: PLC0415 - the program's part, apart from the tests' process

    with rados.Rados(conffile=conf) as cluster, cluster.open_ioctx(pool) as ioctx:
        ioctx.read(obj)  # its OSD is connected now, and gets the watch in one message
        sys.stdout.write(f"{cluster.get_addrs()}\n")
        sys.stdout.flush()
        sys.stdin.readline()
        ioctx.watch(obj, lambda *_: None)


if __name__ == "__main__":
    main()
