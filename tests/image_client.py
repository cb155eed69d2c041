"""A client of its own that has an image open for writing: a program, so that it can be killed and has its own address.

As a program: `python -m tests.image_client CONF POOL IMAGE` opens the image, takes its lock by writing, prints its address,
and waits until its input ends.
"""

import subprocess
import sys
from typing import Self

from csi_driver.dev.layout import DevCeph


class ImageClient:
    """Holds the image and its exclusive lock while the context lasts, or until `kill`."""

    def __init__(self, ceph: DevCeph, image: str, pool: str = "rbd") -> None:
        command = (sys.executable, "-m", "tests.image_client", str(ceph.conf), pool, image)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        assert self.address, "the image client did not open its image"

    def close(self) -> None:
        """Orderly."""
        self._process.communicate()

    def kill(self) -> None:
        """SIGKILL: lock and watch stay behind, as after a power cut."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self.close()


def main() -> None:
    conf, pool, image = sys.argv[1:]
    import rados  # noqa: PLC0415 - the program's part, apart from the tests' process
    import rbd  # noqa: PLC0415

    with (
        rados.Rados(conffile=conf) as cluster,
        cluster.open_ioctx(pool) as ioctx,
        rbd.Image(ioctx, image) as opened,
    ):
        opened.write(b"held", 0)
        sys.stdout.write(f"{cluster.get_addrs()}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
