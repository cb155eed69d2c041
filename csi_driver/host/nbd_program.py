"""The program rbd-nbd as it is run: its options, the way of the key, and what its failures mean.

The key is in a file of memory whose descriptor the program inherits: in no argument, environment or file of a disk.

A device that was connected by netlink outlives the program: the kernel keeps what is read and written for
`reattach-timeout` seconds, and another program that names the device's cookie takes it on (`attach`). rbd-nbd of Ceph 16.2
cannot tell the kernel of a new size that way ("must specify backend", https://tracker.ceph.com/issues/64139). So netlink is
the default where the program is mended, and kernels have cookies (since 5.14).
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from csi_driver.addresses import ImageAddress
from csi_driver.errors import ClusterTimeout, DeviceTrouble, DriverError, InvalidRequest
from csi_driver.host import commands
from csi_driver.host.api import Attachment
from csi_driver.host.krbd import meaning
from csi_driver.host.nbd_devices import PROGRAM, cookie_of

_CONNECT_TIMEOUT_S = 10
_MAP_TIMEOUT_S = 45.0
_UNMAP_TIMEOUT_S = 45.0
_VERSION_TIMEOUT_S = 10.0

_DEFAULTS = {"io-timeout": "0", "reattach-timeout": "300"}
_NETLINK = "try-netlink"
_FLAGS = ("exclusive", "quiesce", _NETLINK)
_NUMBER = re.compile(r"(io-timeout|reattach-timeout)=([0-9]{1,5})")
_SETTING = re.compile(r"(rbd_[a-z0-9_]+)=([A-Za-z0-9_.:/-]+)")

_GROWS_BY_NETLINK = (18, 2, 7)
_COOKIES_SINCE = (5, 14)


@dataclass(frozen=True)
class MapOptions:
    """`mapOptions` of nbd. by_netlink: asked for; else it is the default or not."""

    words: tuple[str, ...]
    by_netlink: bool
    reattach_timeout_s: float

    @classmethod
    def parse(cls, options: Sequence[str]) -> "MapOptions":
        """Raises InvalidRequest."""
        numbers, words = dict(_DEFAULTS), list[str]()
        for option in options:
            if match := _NUMBER.fullmatch(option):
                numbers[match[1]] = match[2]
            elif match := _SETTING.fullmatch(option):
                words += [f"--{match[1]}", match[2]]
            elif option not in _FLAGS:
                raise InvalidRequest(
                    f"mapOptions: {option!r} is not known to the nbd mounter; allowed are {', '.join(_FLAGS)}, "
                    "io-timeout=SECONDS, reattach-timeout=SECONDS and rbd_NAME=VALUE"
                )
            elif option != _NETLINK:
                words.append(f"--{option}")
        words += [word for name, value in numbers.items() for word in (f"--{name}", value)]
        return cls(tuple(words), _NETLINK in options, float(numbers["reattach-timeout"]))


def map_image(attachment: Attachment, address: ImageAddress, options: MapOptions) -> None:
    """A new device. Raises what krbd.meaning tells, ClusterTimeout, DeviceTrouble."""
    words = list(options.words)
    if has_cookies() and (options.by_netlink or grows_by_netlink()):
        words += [f"--{_NETLINK}", "--cookie", cookie_of(attachment)]
    elif options.by_netlink:
        words += [f"--{_NETLINK}"]
    _connect("map", attachment, address, words)


def reattach(attachment: Attachment, address: ImageAddress, device: Path, options: MapOptions) -> None:
    """Serves a device whose program has ended. Raises as `map_image`."""
    words = [*options.words, "--device", str(device), "--cookie", cookie_of(attachment)]
    _connect("attach", attachment, address, words)


def unmap(device: Path) -> None:
    """Disconnects it, whoever has it. Raises CommandFailed when it is connected after that."""
    argv = [PROGRAM, "unmap", str(device), "--conf", "/dev/null"]
    ended = commands.run(argv, timeout_s=_UNMAP_TIMEOUT_S, ok=None)
    if ended.code and Path("/sys/block", device.name, "pid").exists():
        raise commands.CommandFailed(argv, ended)


def has_cookies() -> bool:
    """Whether this kernel keeps a cookie for each device."""
    return _numbers(os.uname().release)[:2] >= _COOKIES_SINCE


@cache
def grows_by_netlink() -> bool:
    """Whether this machine's rbd-nbd tells the kernel of new sizes by netlink."""
    said = commands.run([PROGRAM, "--version"], timeout_s=_VERSION_TIMEOUT_S, ok=None).stdout
    return _numbers(said) >= _GROWS_BY_NETLINK


def _numbers(text: str) -> tuple[int, ...]:
    """The first release that is told in it."""
    found = re.search(r"\d+(\.\d+)+", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def _connect(verb: str, attachment: Attachment, address: ImageAddress, words: Sequence[str]) -> None:
    key = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        os.write(key, address.credentials.key.encode())
        argv = [PROGRAM, verb, attachment.spec]
        argv += ["--read-only"] if attachment.read_only else []
        argv += ["--conf", "/dev/null", "--mon-host", ",".join(address.monitors)]
        argv += ["--id", address.credentials.user, "--keyfile", f"/proc/self/fd/{key}"]
        argv += ["--client-mount-timeout", str(_CONNECT_TIMEOUT_S), "--log-file", "/dev/null", *words]
        ended = commands.run(argv, timeout_s=_MAP_TIMEOUT_S, pass_fds=(key,), ok=None)
        if ended.code:
            raise _why_not(ended, attachment, address, key)
    except commands.CommandTimeout as late:
        raise ClusterTimeout(f"mapping image {attachment.spec} took more than {_MAP_TIMEOUT_S:g} s") from late
    finally:
        os.close(key)


def _why_not(ended: commands.Completed, attachment: Attachment, address: ImageAddress, key: int) -> DriverError:
    """rbd-nbd says nothing of an image that it cannot open: the rbd tool is asked, with the same user and key."""
    argv = ["rbd", "info", attachment.spec, "--conf", "/dev/null", "--mon-host", ",".join(address.monitors)]
    argv += ["--id", address.credentials.user, "--keyfile", f"/proc/self/fd/{key}"]
    argv += ["--client-mount-timeout", str(_CONNECT_TIMEOUT_S)]
    asked = commands.run(argv, timeout_s=_MAP_TIMEOUT_S, pass_fds=(key,), ok=None)
    if asked.code:
        return meaning(asked, attachment, address)
    said = ended.stderr.strip()[-400:] or "rbd-nbd says nothing"
    return DeviceTrouble(f"image {attachment.spec} could not be mapped (code {ended.code}): {said}")
