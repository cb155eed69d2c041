"""Debian's kernel package, unpacked and not installed, and the initramfs that finds this machine's root with it.

Kept in a directory that outlives the checkout: one per release of the kernel, made whole or not at all.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_META_PACKAGE = "linux-image-amd64"
_NEEDED_TO_BEGIN = ("virtio_pci", "virtio_console", "virtio_net", "9pnet_virtio", "9p", "overlay")
_DOWNLOAD_S, _UNPACK_S = 600, 300


@dataclass(frozen=True)
class Kernel:
    """One release's image and modules below `root`, as the package has them."""

    root: Path

    @property
    def release(self) -> str:
        (modules,) = (self.root / "lib/modules").iterdir()
        return modules.name

    @property
    def image(self) -> Path:
        return self.root / f"boot/vmlinuz-{self.release}"

    def closure(self, modules: tuple[str, ...]) -> list[Path]:
        """The files to load for these modules, each after those that it needs."""
        found: dict[Path, None] = {}
        for module in modules:
            said = _run(["modprobe", "-d", str(self.root), "-S", self.release, "--show-depends", module], 60)
            for line in said.splitlines():
                if line.startswith("insmod "):
                    found[Path(line.split()[1])] = None
        return list(found)


def home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "/var/cache")) / "rbd-csi" / "vm"


def kernel(tell: Callable[[str], None]) -> Kernel:
    """The one that is there, else the newest that apt offers."""
    for root in sorted(home().glob("linux-image-*")):
        if not root.name.endswith(".part"):
            return Kernel(root)
    said = _run(["apt-cache", "depends", _META_PACKAGE], 60)
    package = next(line.split()[1] for line in said.splitlines() if line.strip().startswith("Depends: linux-image-"))
    tell(f"fetching {package}")
    unfinished = home() / f"{package}.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    _run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package], _DOWNLOAD_S, cwd=unfinished)
    (archive,) = unfinished.glob("*.deb")
    _run(["dpkg-deb", "-x", str(archive), str(unfinished)], _UNPACK_S)
    archive.unlink()
    made = Kernel(unfinished)
    _run(["depmod", "-b", str(unfinished), made.release], 120)
    return Kernel(unfinished.rename(home() / package))


def initramfs(of: Kernel, scratch: Path) -> Path:
    """busybox, the modules that the root needs, and `init`; made anew each time, in a second."""
    tree = scratch / "initramfs"
    for directory in ("bin", "dev", "proc", "sys", "modules"):
        (tree / directory).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    shutil.copy(Path(__file__).parent / "init", tree / "init")
    (tree / "init").chmod(0o755)
    files = of.closure(_NEEDED_TO_BEGIN)
    for file in files:
        shutil.copy(file, tree / "modules" / file.name)
    (tree / "order").write_text("".join(f"{file.name}\n" for file in files))
    names = "\n".join(str(path.relative_to(tree)) for path in [tree, *tree.rglob("*")])
    packed = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"], cwd=tree, input=names.encode(), capture_output=True, check=True
    )
    (scratch / "initramfs.img").write_bytes(packed.stdout)
    return scratch / "initramfs.img"


def _run(argv: list[str], timeout_s: float, cwd: Path | None = None) -> str:
    ended = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)
    if ended.returncode:
        raise SystemExit(f"vm: {' '.join(argv)} ended with {ended.returncode}: {ended.stderr.strip()[-2000:]}")
    return ended.stdout
