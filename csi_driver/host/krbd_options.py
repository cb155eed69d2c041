"""Options of a map and an unmap, as the kernel's RBD client knows them (rbd(8), "Kernel RBD (krbd) options")."""

import re
from collections.abc import Callable, Mapping, Sequence

import structlog

from csi_driver.addresses import ImageAddress
from csi_driver.errors import InvalidRequest

log = structlog.get_logger(__name__)

_OPTION = re.compile(r"[a-z_]+(=[^\s,]+)?")
_NOT_THEIRS = ("name", "key", "secret", "udev", "noudev", "ro", "rw", "fsid", "ip")
"""Options that say who connects to what: never a volume's to choose."""
_OF_READS = ("read_from_replica", "crush_location")

Locate = Callable[[Sequence[str]], Mapping[str, str]]
"""This node's CRUSH buckets by their types, some of them by labels of its node."""


def parse(field: str, options: Sequence[str]) -> tuple[str, ...]:
    """The words of mapOptions or unmapOptions. Raises InvalidRequest."""
    for option in options:
        if not _OPTION.fullmatch(option) or option.partition("=")[0] in _NOT_THEIRS:
            raise InvalidRequest(
                f"{field}: {option!r} is not allowed for krbd; allowed are the kernel's options NAME or NAME=VALUE, "
                f"without {', '.join(_NOT_THEIRS)}"
            )
    return tuple(options)


def nearest(address: ImageAddress, given: Sequence[str], locate: Locate) -> tuple[str, ...]:
    """What has reads come from the nearest replica (kernels since 5.8); nothing where mapOptions speak of that."""
    if address.read_affinity is None or any(word.partition("=")[0] in _OF_READS for word in given):
        return ()
    buckets = locate(address.read_affinity.labels)
    if not buckets:
        log.warning("nobody says where this node is: an image is read from primary OSDs", image=address.spec)
        return ()
    place = "|".join(f"{kind}:{name}" for kind, name in sorted(buckets.items()))
    return ("read_from_replica=localize", f"crush_location={place}")
