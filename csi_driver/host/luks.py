"""LUKS2 on block devices, with cryptsetup: format, open, grow, close; what is open is asked of sysfs.

The passphrase goes to cryptsetup's standard input and is nowhere else. The volume's key stays with the device mapper and in
no keyring, so that growing needs no passphrase. Nothing is persisted here but the LUKS header.

libdevmapper makes the names below /dev/mapper itself, since a container has no udev to wait for.
"""

import shutil
from pathlib import Path

from csi_driver.errors import DeviceTrouble, Unauthenticated
from csi_driver.host import commands
from csi_driver.host.api import Device, LuksForm, OpenLuks

PROGRAM = "cryptsetup"

_TIMEOUT_S = 120.0
_WRONG_PASSPHRASE = 2
_PBKDF_MEMORY_KIB = 32768
_NO_UDEV = {"DM_DISABLE_UDEV": "1"}


class LocalLuks:
    """Encrypted devices of this machine (host.api.Luks)."""

    def __init__(self, sys: Path = Path("/sys")) -> None:
        self._sys = sys

    def unavailable_reason(self) -> str | None:
        if not shutil.which(PROGRAM):
            return f"the program {PROGRAM} is not installed"
        if not Path("/dev/mapper/control").exists():
            if shutil.which("modprobe"):
                commands.run(["modprobe", "dm_crypt"], timeout_s=_TIMEOUT_S, ok=None)
            if not Path("/dev/mapper/control").exists():
                return "the kernel has no device mapper, or its module dm_crypt cannot be loaded from here"
        return None

    def format(self, device: Path, passphrase: str, form: LuksForm) -> None:
        argv = ["luksFormat", "--type", "luks2", "--hash", "sha256", "--pbkdf-memory", str(_PBKDF_MEMORY_KIB)]
        argv += ["--cipher", form.cipher] if form.cipher else []
        argv += ["--sector-size", str(form.sector_bytes)] if form.sector_bytes else []
        self._run([*argv, "--key-file", "-", str(device)], passphrase)

    def open(self, device: Device, name: str, passphrase: str, *, read_only: bool) -> Device:
        argv = ["open", "--type", "luks2", "--disable-keyring", "--key-file", "-"]
        argv += ["--readonly"] if read_only else ["--allow-discards"]
        self._run([*argv, str(device.path), name], passphrase)
        found = self.find(name)
        if found is None:
            raise DeviceTrouble(f"{name} was opened and is gone again")
        return found.device

    def find(self, name: str) -> OpenLuks | None:
        for entry in (self._sys / "block").glob("dm-*"):
            try:
                if _text(entry / "dm/name") != name:
                    continue
                below = [_text(slave / "dev") for slave in (entry / "slaves").iterdir()]
                size = int(_text(entry / "size")) * 512
                return OpenLuks(
                    Device(Path("/dev/mapper") / name, _text(entry / "dev"), size), below[0] if below else ""
                )
            except FileNotFoundError:  # closed meanwhile
                continue
        return None

    def grow(self, name: str) -> Device:
        self._run(["resize", name], None)
        found = self.find(name)
        if found is None:
            raise DeviceTrouble(f"{name} is gone")
        return found.device

    def close(self, name: str) -> None:
        if self.find(name):
            self._run(["close", name], None)

    def _run(self, words: list[str], passphrase: str | None) -> None:
        argv = [PROGRAM, "--batch-mode", *words]
        ended = commands.run(argv, timeout_s=_TIMEOUT_S, stdin=passphrase, env=_NO_UDEV, ok=(0, _WRONG_PASSPHRASE))
        if ended.code:
            raise Unauthenticated("the encryption passphrase does not open the volume")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
