"""One qemu-storage-daemon that holds one RBD image open and shows it as one file through FUSE.

Persisted, in a directory of its own (mode 0700) that must outlive the process and the pod that started it:
  image.json   volume, image and read-only flag that the directory is for; written first, removed last
  ceph.conf    monitors and client options, no secret; read once, when the image is opened
  qmp.sock     the daemon's monitor             daemon.pid   its process id
  disk         the file that is the image while the daemon exports it; loop.py notes its device in `loop`
Order: image.json, ceph.conf, daemon (out of our cgroup), key and image over the monitor, export. A crash leaves a prefix
of that, which `stop` clears away whole; only an exported image of the right name is ever used again.

The cephx key goes over the monitor's socket into the daemon's memory: it is in no file, argument or environment.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from csi_driver.addresses import ImageAddress
from csi_driver.errors import (
    AccessDenied,
    ClusterTimeout,
    ClusterUnavailable,
    DeviceTrouble,
    DriverError,
    NotFound,
    Unauthenticated,
)
from csi_driver.host import cgroups, commands
from csi_driver.host.api import Attachment
from csi_driver.host.bounded import bounded
from csi_driver.host.qmp import Monitor, MonitorAbsent, MonitorRefused, MonitorSilent
from csi_driver.tracing import step

PROGRAM = "qemu-storage-daemon"

_START_TIMEOUT_S = 20.0
_ANSWER_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 10  # librados' own bound for reaching a monitor
_OPEN_TIMEOUT_S = 25.0  # connecting, and reading the image's header
_FLUSH_TIMEOUT_S = 30.0
_SHOW_SIZE_TIMEOUT_S = 8.0
_POLL_S = 0.02
_NODE, _EXPORT, _SECRET, _PROBE = "disk", "export", "key", "probe"


class StorageDaemon:
    """The daemon of one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.file = directory / "disk"
        self._socket = directory / "qmp.sock"
        self._pid_file = directory / "daemon.pid"
        self._identity = directory / "image.json"

    def exists(self) -> bool:
        """Whether anything of a daemon is here, dead or alive."""
        return self._directory.is_dir()

    def start(self, attachment: Attachment, address: ImageAddress, options: Mapping[str, str]) -> None:
        """From nothing to the exported file. On failure the caller decides about `stop`."""
        with step("fuse.prepare", attachment.spec):
            self._directory.mkdir(mode=0o700, parents=True)
            self._identity.write_text(json.dumps(_identity(attachment)), encoding="utf-8")
            (self._directory / "ceph.conf").write_text(_ceph_conf(address, options), encoding="utf-8")
            self.file.touch(mode=0o600)
        with step("fuse.daemon", attachment.spec):
            argv = [PROGRAM, "--daemonize", "--pidfile", str(self._pid_file)]
            argv += ["--chardev", f"socket,id=monitor,path={self._socket},server=on,wait=off", "--monitor", "monitor"]
            commands.run(argv, timeout_s=_START_TIMEOUT_S)
            self.leave_cgroup()
        with step("fuse.open", attachment.spec), self._monitor() as monitor:
            self._open(monitor, attachment, address)

    def leave_cgroup(self) -> None:
        """Also for a daemon that a killed process started and did not move any more."""
        if pid := self._pid():
            with contextlib.suppress(FileNotFoundError):  # it ended: the monitor will say so
                cgroups.leave(pid)

    def serves(self, attachment: Attachment) -> bool:
        """Whether a live daemon exports this very image, as its directory and its own answer say."""
        try:
            if json.loads(self._identity.read_text(encoding="utf-8")) != _identity(attachment):
                return False
            with self._monitor() as monitor:
                exports = monitor.execute("query-block-exports")
                nodes = {node["node-name"]: node for node in monitor.execute("query-named-block-nodes")}
        except (OSError, ValueError, MonitorAbsent):
            return False
        if not any(export["node-name"] == _NODE and not export["shutting-down"] for export in exports):
            return False
        return _image_of(nodes[_NODE]) == attachment.spec and nodes[_NODE]["ro"] == attachment.read_only

    def grow(self) -> int:
        """The daemon and its file take over the size that the image has now; that size.

        The daemon resizes the image when it is told a size (librbd has no other way), so the size is read anew right
        before: by opening the image a second time, read-only, which takes neither lock nor watch. An image that grows once
        more within the milliseconds between would be set back to the size just read: the orchestrator grows a volume again
        only after this has answered.
        """
        with self._monitor() as monitor:
            nodes = {node["node-name"]: node for node in monitor.execute("query-named-block-nodes")}
            if _PROBE in nodes:  # left by a crash
                monitor.execute("blockdev-del", {"node-name": _PROBE})
            known = _size_of(nodes[_NODE])
            source = {**_source_of(nodes[_NODE]), "key-secret": _SECRET}
            probe = {**source, "node-name": _PROBE, "read-only": True}
            monitor.execute("blockdev-add", probe, timeout_s=_OPEN_TIMEOUT_S)
            probed = {node["node-name"]: node for node in monitor.execute("query-named-block-nodes")}
            size = _size_of(probed[_PROBE])
            if size > known:
                resize = {"node-name": _NODE, "size": size}
                monitor.execute("block_resize", resize, timeout_s=_OPEN_TIMEOUT_S)
            monitor.execute("blockdev-del", {"node-name": _PROBE})
        self._wait_for_size(max(size, known))
        return max(size, known)

    def stop(self) -> None:
        """Nothing is left: no process, no FUSE mount, no file. The caller has let go of the file."""
        pid = self._pid()
        if pid:
            self._end(pid)
        commands.run(["umount", "-c", "-l", str(self.file)], timeout_s=_ANSWER_TIMEOUT_S, ok=None)
        with contextlib.suppress(FileNotFoundError):
            for path in self._directory.iterdir():
                if path != self._identity:
                    path.unlink(missing_ok=True)
            shutil.rmtree(self._directory)

    @contextmanager
    def _monitor(self) -> Iterator[Monitor]:
        """A refusal that no caller expects is the device's trouble."""
        try:
            with Monitor(self._socket, timeout_s=_ANSWER_TIMEOUT_S) as monitor:
                yield monitor
        except TimeoutError as late:
            raise MonitorSilent(f"the storage daemon at {self._socket} does not answer") from late
        except MonitorRefused as refused:
            raise DeviceTrouble(f"the storage daemon refused: {refused}") from refused

    def _open(self, monitor: Monitor, attachment: Attachment, address: ImageAddress) -> None:
        secret = {"qom-type": "secret", "id": _SECRET, "format": "base64", "data": address.credentials.key}
        node: dict[str, object] = {
            "driver": "rbd",
            "node-name": _NODE,
            "pool": attachment.pool,
            "image": attachment.image,
            "user": address.credentials.user,
            "conf": str(self._directory / "ceph.conf"),
            "key-secret": _SECRET,
            "cache": {"direct": True},
            "discard": "unmap",
            "read-only": attachment.read_only,
        }
        if attachment.rados_namespace:
            node["namespace"] = attachment.rados_namespace
        export = {
            "type": "fuse",
            "id": _EXPORT,
            "node-name": _NODE,
            "mountpoint": str(self.file),
            "writable": not attachment.read_only,
            "allow-other": "off",
        }
        try:
            monitor.execute("object-add", secret)
        except MonitorRefused as refused:  # its text may quote what it could not parse
            raise Unauthenticated(f"the key of user {address.credentials.user!r} is not a cephx key") from refused
        try:
            monitor.execute("blockdev-add", node, timeout_s=_OPEN_TIMEOUT_S)
        except MonitorRefused as refused:
            raise _meaning(str(refused), attachment, address) from refused
        except MonitorSilent as silent:
            raise ClusterTimeout(f"opening image {attachment.spec} took more than {_OPEN_TIMEOUT_S:g} s") from silent
        monitor.execute("block-export-add", export)

    def _wait_for_size(self, size_bytes: int) -> None:
        """FUSE keeps a file's attributes for a second."""
        deadline = time.monotonic() + _SHOW_SIZE_TIMEOUT_S
        while bounded(f"stat {self.file}", lambda: self.file.stat().st_size, _ANSWER_TIMEOUT_S) < size_bytes:
            if time.monotonic() > deadline:
                raise DeviceTrouble(f"{self.file} does not show the {size_bytes} bytes of its image")
            time.sleep(_POLL_S)

    def _pid(self) -> int | None:
        """The daemon's process id, if that process is still this daemon."""
        try:
            pid = int(self._pid_file.read_text(encoding="ascii"))
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self._pid_file) in words else None

    def _end(self, pid: int) -> None:
        """Ask first, which writes back and gives the image's lock up at once; then kill."""
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            for number, patience_s in ((signal.SIGTERM, _FLUSH_TIMEOUT_S), (signal.SIGKILL, _ANSWER_TIMEOUT_S)):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process, number)
                if select.select([process], [], [], patience_s)[0]:
                    return
        finally:
            os.close(process)
        raise DeviceTrouble(f"storage daemon {pid} does not end, not even when killed")


def _identity(attachment: Attachment) -> dict[str, object]:
    return {"volume": attachment.volume_id, "image": attachment.spec, "readOnly": attachment.read_only}


def _ceph_conf(address: ImageAddress, options: Mapping[str, str]) -> str:
    """Every form of address that ceph.conf knows is allowed. Data I/O has no time limit: it would fail, not wait."""
    lines = {
        "mon_host": ",".join(address.monitors),
        "client_mount_timeout": str(_CONNECT_TIMEOUT_S),
        "log_to_stderr": "false",
        "err_to_stderr": "false",
        "log_file": "/dev/null",
        "admin_socket": "",
        **options,
    }
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


def _source_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """The options with which a node was opened, as QEMU's json: file name gives them."""
    source: dict[str, Any] = json.loads(str(node["image"]["filename"]).removeprefix("json:"))
    return source


def _image_of(node: Mapping[str, Any]) -> str:
    source = _source_of(node)
    return "/".join(part for part in (source["pool"], source.get("namespace", ""), source["image"]) if part)


def _size_of(node: Mapping[str, Any]) -> int:
    return int(node["image"]["virtual-size"])


def _meaning(text: str, attachment: Attachment, address: ImageAddress) -> DriverError:
    """QEMU gives librados' errors as text: which call failed, and strerror."""
    what, user = f"image {attachment.spec}", f"user client.{address.credentials.user}"
    if text.startswith("error connecting"):
        if text.endswith("timed out"):
            return ClusterUnavailable(f"no monitor of {', '.join(address.monitors)} answers: {text}")
        return Unauthenticated(f"the cluster does not accept {user} and its key: {text}")
    if text.endswith(("No such file or directory", "does not exist")):
        return NotFound(f"{what} does not exist: {text}")
    if text.endswith(("Operation not permitted", "Permission denied")):
        return AccessDenied(f"{user} may not open {what}: {text}")
    if text.endswith("timed out"):
        return ClusterTimeout(f"{what} did not open in time: {text}")
    return DeviceTrouble(f"{what} could not be opened: {text}")
