"""Pools in which nothing but what a request says decides how an image is made.

librbd looks for more: whether the pool can hold images at all, which it notes in the object `rbd_info` when it makes the
first, and defaults of the pool and of the client, which `rbd config pool set` and `ceph config set client` change (Ceph:
librbd/image/ValidatePoolRequest.cc, CreateRequest.cc; librbd/api/Config.cc).
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from csi_driver.errors import AccessDenied

_DEFAULTS = ("rbd_default_data_pool", "rbd_default_stripe_unit", "rbd_default_stripe_count")
"""What takes the place of what a layout leaves open; each is empty or 0 unless somebody has set it."""
_SETTING = "metadata_conf_"
_INFO = "rbd_info"
_VALIDATED = b"overwrite validated"
_KNOWN_S = 60.0
"""For which what was seen is believed."""


class Infos(Protocol):
    """The object `rbd_info` of a pool and namespace."""

    def read_data(self, name: str) -> bytes | None:
        """None when it is not there."""

    def list_page(self, name: str, *, prefix: str, after: str, limit: int) -> list[tuple[str, str]]:
        """Its keys."""


Elsewhere = Callable[[int, str], AbstractContextManager[Infos]]


class PlainPools:
    """As one connection sees them.

    setting: of the client, by name · clock: seconds that never go back.
    """

    def __init__(
        self, elsewhere: Elsewhere, setting: Callable[[str], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._elsewhere = elsewhere
        self._setting = setting
        self._clock = clock
        self._seen: dict[tuple[int, int, str], tuple[float, bool]] = {}

    def is_plain(self, pool_id: int, data_pool_id: int, namespace: str) -> bool:
        """Of a pool of images whose data lie in `data_pool_id`, which may be the same."""
        if any(self._setting(one) not in ("", "0") for one in _DEFAULTS):
            return False
        key = (pool_id, data_pool_id, namespace)
        seen_at, was_plain = self._seen.get(key, (-_KNOWN_S, False))
        if self._clock() - seen_at < _KNOWN_S:
            return was_plain
        seen_at = self._clock()
        try:
            is_plain = self._has_no_defaults(pool_id) and self._is_validated(data_pool_id, namespace)
        except AccessDenied:  # librbd makes images without these settings then
            self._seen[key] = (seen_at, False)
            return False
        if is_plain:  # what is not may be so with the next image
            self._seen[key] = (seen_at, True)
        return is_plain

    def _has_no_defaults(self, pool_id: int) -> bool:
        """A pool's settings stand in its default namespace, for all its namespaces."""
        with self._elsewhere(pool_id, "") as infos:
            found = infos.list_page(_INFO, prefix=_SETTING, after="", limit=1000)
        return not {key.removeprefix(_SETTING) for key, _ in found}.intersection(_DEFAULTS)

    def _is_validated(self, pool_id: int, namespace: str) -> bool:
        with self._elsewhere(pool_id, namespace) as infos:
            return infos.read_data(_INFO) == _VALIDATED
