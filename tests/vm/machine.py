"""One guest: its qemu process, the box that it shares with this machine, and commands run in it.

The box is a directory (in the guest: /box, written by both): the agent and the scripts that the guest begins with, and what
commands leave for this machine to read. The command channel is a socket in it, so that another process can use it as well.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.vm.kernel import Kernel, initramfs

CHECKOUT = Path(__file__).resolve().parents[2]
_BOOT_S = 300.0
_END_S = 30.0
_FILES = ("agent.py", "guest")

Tell = Callable[[str], None]


class GuestTrouble(Exception):
    """The guest did not start, or does not answer."""


class Guest:
    """The guest of one box."""

    def __init__(self, box: Path) -> None:
        self.box = box
        self._socket = box / "agent.sock"
        self._pid = box / "qemu.pid"
        self._console = box / "console.log"

    def start(self, kernel: Kernel, *, memory_mib: int = 2048) -> None:
        """Booted when this returns, about half a minute later."""
        self.box.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            shutil.copy(Path(__file__).parent / name, self.box / name)
        (self.box / "modules").write_text(str(kernel.root / "lib/modules"))
        image = initramfs(kernel, self.box)
        shares = [
            argument
            for tag, path, read_only in (("root", "/", "on"), ("box", str(self.box), "off"))
            for argument in (
                "-virtfs",
                f"local,path={path},mount_tag={tag},security_model=none,readonly={read_only},multidevs=remap",
            )
        ]
        argv = [
            "qemu-system-x86_64",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "Westmere",
            "-smp",
            "2",
            "-m",
            str(memory_mib),
        ]
        argv += ["-display", "none", "-no-reboot", "-serial", f"file:{self._console}", "-monitor", "none"]
        argv += ["-kernel", str(kernel.image), "-initrd", str(image)]
        argv += ["-append", "console=ttyS0 panic=-1 nokaslr mitigations=off quiet", *shares]
        argv += ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net"]
        argv += ["-device", "virtio-serial", "-chardev", f"socket,id=agent,path={self._socket},server=on,wait=off"]
        argv += ["-device", "virtserialport,chardev=agent,name=agent"]
        argv += ["-daemonize", "-pidfile", str(self._pid)]
        made = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        if made.returncode:
            raise GuestTrouble(f"qemu ended with {made.returncode}: {made.stderr.strip()}")
        self._await_agent()

    def run(
        self,
        argv: Sequence[str],
        said: Tell,
        *,
        timeout_s: int,
        cwd: Path = CHECKOUT,
        env: Mapping[str, str] | None = None,
    ) -> int:
        """The command's exit code; 124 when it took longer. Its output goes to `said` as it comes."""
        bounded = ["timeout", "--kill-after=10", str(timeout_s), *argv]
        asked = {"argv": bounded, "cwd": str(cwd), "env": dict(env or {})}
        with self._channel(timeout_s + 60.0) as channel:
            channel.sendall(json.dumps(asked).encode() + b"\n")
            with channel.makefile(encoding="utf-8") as lines:
                for line in lines:
                    answer = json.loads(line)
                    said(answer.get("said", ""))
                    if "code" in answer:
                        return int(answer["code"])
        raise GuestTrouble(f"the guest ended: {self.console_tail()}")

    def stop(self) -> None:
        """Nothing of it is left but what lies in the box."""
        with contextlib.suppress(OSError), self._channel(5.0) as channel:
            channel.sendall(b'{"end": true}\n')
        pid = self._process()
        if pid:
            self._end(pid)

    def console_tail(self) -> str:
        return "\n".join(self._console.read_text(errors="replace").splitlines()[-30:])

    def _end(self, pid: int) -> None:
        deadline = time.monotonic() + _END_S
        while self._process() and time.monotonic() < deadline:
            time.sleep(0.1)
        if self._process():
            os.kill(pid, signal.SIGKILL)

    def _process(self) -> int | None:
        """qemu's process id, if that process is still this guest's."""
        try:
            pid = int(self._pid.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self._pid) in words else None

    def _channel(self, timeout_s: float) -> socket.socket:
        channel = socket.socket(socket.AF_UNIX)
        channel.settimeout(timeout_s)
        channel.connect(str(self._socket))
        return channel

    def _await_agent(self) -> None:
        try:
            with self._channel(_BOOT_S) as channel, channel.makefile(encoding="utf-8") as lines:
                if json.loads(lines.readline() or "{}").get("ready"):
                    return
        except TimeoutError:
            pass
        tail = self.console_tail()
        self.stop()
        raise GuestTrouble(f"the guest did not come up: {tail}")
