"""A client that is killed while an OSD writes its watch down.

As a program: `python -m tests.dying_watcher CONF POOL OBJECT` connects, prints its address, waits for a line and watches.
"""

import subprocess
import sys
import time
from collections.abc import Callable

from csi_driver.dev.layout import DevCeph

_MOST_TRIES = 100
_STEP_S = 0.0001
_STEPS = 15


def leave_a_watch(ceph: DevCeph, obj: str, is_left: Callable[[str], bool], pool: str = "rbd") -> str:
    """A watch that its OSD committed after the connection broke, so that nothing times it out; its dead client's address.

    A matter of a moment of less than a millisecond: clients are killed, each a little later than the one before, until
    `is_left` says so of one's address.
    """
    for number in range(_MOST_TRIES):
        address = _die_watching(ceph, obj, pool, after_s=_STEP_S * (number % _STEPS))
        if is_left(address):
            return address
    raise AssertionError(f"none of {_MOST_TRIES} killed clients left its watch behind")


def _die_watching(ceph: DevCeph, obj: str, pool: str, *, after_s: float) -> str:
    command = (sys.executable, "-m", "tests.dying_watcher", str(ceph.conf), pool, obj)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin
        assert client.stdout
        address = client.stdout.readline().strip()
        assert address, "the client did not connect"
        client.stdin.write("\n")
        client.stdin.flush()
        time.sleep(after_s)
        client.kill()
    return address


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
