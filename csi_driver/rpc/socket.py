"""The UNIX socket: a stale file is replaced, a living server's socket is never stolen.

Only the socket itself stands in its directory (CSI spec, Protocol). The lock is therefore a name in the abstract socket
namespace, made of the directory's device and inode: the kernel frees it with the process, however that ends.
"""

import socket
import stat
from pathlib import Path

from csi_driver.errors import DriverError

MAX_PATH_BYTES = 107
"""sockaddr_un.sun_path less its final NUL (unix(7))."""


class SocketTaken(DriverError):
    """Another server lives at this socket, or something that is no socket."""


def parse_endpoint(endpoint: str) -> Path:
    """The path in unix://PATH or unix:PATH. Raises ValueError that names the form."""
    path = endpoint.removeprefix("unix:").removeprefix("//") if endpoint.startswith("unix:") else ""
    if not path.startswith("/"):
        raise ValueError(f"endpoint {endpoint!r} is not unix:///absolute/path.sock")
    if not path.endswith(".sock"):
        raise ValueError(f"endpoint {endpoint!r}: the path must end in .sock (CSI spec, Protocol)")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise ValueError(f"endpoint {endpoint!r}: the path has more than {MAX_PATH_BYTES} bytes")
    return Path(path)


class SocketLock:
    """The right to serve at one path, held until the process ends or `release`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._made: tuple[int, int] | None = None

    def take(self) -> None:
        """Take the lock and clear a stale socket file away. Raises SocketTaken, and holds nothing then."""
        try:
            self._bind()
            self._clear_stale()
        except SocketTaken:
            self._lock.close()
            raise

    def _bind(self) -> None:
        try:
            directory = self._path.parent.stat()
        except OSError as error:
            raise SocketTaken(f"directory {self._path.parent} of the endpoint: {error.strerror}") from error
        try:
            self._lock.bind(f"\0rbd-csi/{directory.st_dev}:{directory.st_ino}/{self._path.name}")
        except OSError as error:
            raise SocketTaken(f"another rbd-csi serves {self._path}") from error

    def _clear_stale(self) -> None:
        try:
            mode = self._path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise SocketTaken(f"{self._path} exists and is no socket; it is not replaced")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2)
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink(missing_ok=True)
                return
            except OSError as error:
                raise SocketTaken(f"{self._path} is another server's socket ({error})") from error
        raise SocketTaken(f"another server lives at {self._path}")

    def made(self) -> None:
        """Remember the socket file just made, so that `release` removes no other."""
        found = self._path.lstat()
        self._made = (found.st_dev, found.st_ino)

    def release(self) -> None:
        """Remove the own socket file, unless it was removed or replaced, and give the lock up."""
        try:
            found = self._path.lstat()
        except OSError:
            found = None
        if found and self._made == (found.st_dev, found.st_ino):
            self._path.unlink(missing_ok=True)
        self._lock.close()
