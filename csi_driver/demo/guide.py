"""The guided run: every step one line with its result and its time, and an error when something is not as it must be."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from csi_driver.demo.copies import Copies
from csi_driver.demo.driver import Driver
from csi_driver.demo.place import DemoError, Place
from csi_driver.demo.volume import GROWN_BYTES, POOL, Volume
from csi_driver.dev.inventory import Place as Inventoried
from csi_driver.dev.inventory import inventory
from csi_driver.dev.layout import DevCeph

T = TypeVar("T")

_WHAT_WIDTH, _RESULT_WIDTH = 26, 67
_PURGE_S = 60.0
_FEW = 5
_UUID_LENGTH = 36  # at the end of a volume id


class Guide:
    """One run on one cluster."""

    def __init__(self, ceph: DevCeph, place: Place, console: Console) -> None:
        self._ceph = ceph
        self._place = place
        self._console = console
        self.driver = Driver(place, ceph.config_json)
        self.volume = Volume(self.driver.client, ceph, place)
        self.copies = Copies(self.driver.client, ceph, place, self.volume)
        self._written = ""
        self._before: frozenset[str] = frozenset()

    def clear_previous(self) -> bool:
        """End what a run that kept all, or was killed, has left; whether there was something."""
        if self.driver.pid is None and not self.volume.is_begun:
            return False
        with self._step("what the last run left") as done:
            self.clear()
            done("cleared away")
        return True

    def clear(self) -> None:
        """Leave nothing, whatever there is. Raises DemoError, and a repeated call goes on."""
        if self.volume.is_begun:
            if self.driver.pid is None:
                self._place.prepare()
                self.driver.start()
            ids = [self.volume.id or self.volume.create(), *self.copies.clear()]
            self.volume.unpublish()
            self.volume.unstage()
            self.volume.delete()
            uuids = [one[-_UUID_LENGTH:] for one in ids]
            self._wait_for_purge(lambda line: any(uuid in line for uuid in uuids))
        self.driver.end()
        self._place.socket.unlink(missing_ok=True)
        self._remove_places()

    def begin(self) -> None:
        """From nothing to a published volume with a file, twice checked and grown, and copies of it."""
        self._before = inventory(self._ceph, Inventoried(POOL))
        if self._before:
            self._line("pool before", f"{POOL} holds {len(self._before)} things already: they are left alone")
        self._place.log.unlink(missing_ok=True)
        self._place.prepare()
        with self._step("rbd-csi serve") as done:
            done(f"ready, pid {self.driver.start()}")
        self._create()
        with self._step("NodeStageVolume") as done:
            self.volume.stage()
            done(f"attached in user space, formatted with {self.volume.fs_type}, mounted")
        with self._step("NodePublishVolume") as done:
            self.volume.publish()
            done(f"{self._place.target}")
        with self._step("write a file") as done:
            self._written = self.volume.write_file()
            done(f"32 MiB, sha256 {self._written[:16]}…")
        with self._step("kill -9, serve again") as done:
            self.driver.end(signal.SIGKILL)
            done(f"ready, pid {self.driver.start()}; the mount was not touched")
        self._check_file(self.volume)
        self._grow()
        self._check_file(self.volume)
        self._copy()

    def end(self) -> None:
        """The way back, and the proof that nothing is left."""
        with self._step("NodeUnpublishVolume") as done:
            self.volume.unpublish()
            done("target path removed")
        with self._step("NodeUnstageVolume") as done:
            self.volume.unstage()
            done("unmounted, detached")
        with self._step("DeleteVolume") as done:
            self.volume.delete()
            done("deleted before its snapshot and its copies")
        for copy in self.copies.volumes:
            self._read_copy(copy)
        self._await_flat()
        self._console.print(self.copies.tree(), soft_wrap=True)
        with self._step("delete the copies") as done:
            deleted = self.copies.clear()
            done(f"{len(deleted)} things, the snapshot last; purged behind the answers")
        with self._step("pool afterwards") as done:
            self._wait_for_purge(lambda line: line not in self._before)
            done(f"{POOL}: " + ("as it was before" if self._before else "no image, no omap object, no trash"))
        with self._step("node afterwards") as done:
            self.driver.end()
            self._remove_places()
            if left := self._place.left_on_node(self.volume.id):
                raise DemoError(f"left on this node: {', '.join(left)}")
            done("driver ended; no mount, loop device, daemon or socket")

    def _create(self) -> None:
        with self._step("CreateVolume") as done:
            first = self.volume.create()
            done(first)
        with self._step("CreateVolume again") as done:
            second = self.volume.create()
            if second != first:
                raise DemoError(f"CreateVolume answered {first}, and then {second}: two volumes of one name")
            done("the same volume")

    def _check_file(self, volume: Volume) -> None:
        with self._step("read the file") as done:
            done(f"sha256 {self._checksum(volume)[:16]}…, as written")

    def _checksum(self, volume: Volume) -> str:
        found = volume.checksum()
        if found != self._written:
            raise DemoError(f"sha256 of the file in {volume.name} was {self._written}, and is now {found}")
        return found

    def _copy(self) -> None:
        """While the volume is mounted: what was synced before is in each copy."""
        with self._step("CreateSnapshot") as done:
            done(self.copies.snapshot.create())
        with self._step("restore the snapshot") as done:
            done(self.copies.restored.create())
        with self._step("clone the volume") as done:
            done(self.copies.clone.create())
        with self._step("restore, flatten: always") as done:
            done(self.copies.flat.create())
        self._console.print(self.copies.tree(), soft_wrap=True)

    def _read_copy(self, copy: Volume) -> None:
        with self._step(f"read {copy.name}") as done:
            copy.stage()
            copy.publish()
            checksum = self._checksum(copy)
            copy.unpublish()
            copy.unstage()
            done(f"staged, published; sha256 {checksum[:16]}…, as written; taken down")

    def _await_flat(self) -> None:
        with self._step("flatten") as done:
            deadline = time.monotonic() + _PURGE_S
            while not self.copies.is_flat():
                if time.monotonic() > deadline:
                    raise DemoError(f"{self.copies.flat.name} still has a parent {_PURGE_S:g} s after it was made")
                time.sleep(0.1)
            done(f"{self.copies.flat.name} holds all its data itself, behind the answer")

    def _remove_places(self) -> None:
        for place in (*self.copies.places, self._place):
            place.remove_empty()
        for place in self.copies.places:
            if place.directory.is_dir() and not any(place.directory.iterdir()):
                place.directory.rmdir()

    def _grow(self) -> None:
        before = self.volume.df()
        with self._step("ControllerExpandVolume") as done:
            size_bytes = self.volume.expand()
            if size_bytes != GROWN_BYTES:
                raise DemoError(f"ControllerExpandVolume answered {size_bytes} bytes, asked for are {GROWN_BYTES}")
            done(f"image has {size_bytes >> 20} MiB")
        with self._step("NodeExpandVolume") as done:
            self.volume.expand_on_node()
            after = self.volume.df()
            if after["size"] == before["size"]:
                raise DemoError(f"df shows {after['size']} before and after the growth")
            done(f"online; df {after['filesystem']} {after['type']}: {before['size']} → {after['size']}")

    def _wait_for_purge(self, concerns: Callable[[str], bool]) -> None:
        """The data goes behind the answer: bounded patience. Raises DemoError that names what is left."""
        deadline = time.monotonic() + _PURGE_S
        while left := [line for line in inventory(self._ceph, Inventoried(POOL)) if concerns(line)]:
            if time.monotonic() > deadline:
                some = ", ".join(sorted(left)[:_FEW])
                raise DemoError(f"left in pool {POOL} {_PURGE_S:g} s after the delete, {len(left)} things: {some}")
            time.sleep(0.1)

    @contextmanager
    def _step(self, what: str) -> Iterator[Callable[[str], None]]:
        """Give `done` the result; without it the step has failed."""
        started = time.monotonic()

        def done(result: str) -> None:
            seconds = time.monotonic() - started
            asked = self.driver.client.asked
            self._line(what, result + (f" (asked {asked} times)" if asked > 1 else ""), seconds)

        self.driver.client.asked = 0
        with self._console.status(what):
            try:
                yield done
            except BaseException:
                self._line(what, "failed", time.monotonic() - started, style="red")
                raise

    def _line(self, what: str, result: str, seconds: float | None = None, *, style: str = "") -> None:
        text = Text(what.ljust(_WHAT_WIDTH), style="bold")
        text.append(result.ljust(_RESULT_WIDTH), style=style or "not bold")
        if seconds is not None:
            text.append(f" {seconds * 1000:7.0f} ms", style="not bold dim")
        self._console.print(text, soft_wrap=True)
