"""What makes a pool plain, and for how long that is believed. On a real pool: tests/ceph/test_image_making.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from csi_driver.ceph.plain_pools import PlainPools
from csi_driver.errors import AccessDenied

VALIDATED = b"overwrite validated"


@dataclass
class Infos:
    """The object of every pool and namespace, a clock, and how often anything was read."""

    data: bytes | None = VALIDATED
    keys: tuple[str, ...] = ()
    is_denied: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    now: float = 0.0
    reads: int = 0

    @contextmanager
    def elsewhere(self, _pool_id: int, _namespace: str) -> Iterator["Infos"]:
        yield self

    def read_data(self, _name: str) -> bytes | None:
        self.reads += 1
        return self.data

    def list_page(self, _name: str, *, prefix: str, after: str, limit: int) -> list[tuple[str, str]]:
        self.reads += 1
        if self.is_denied:
            raise AccessDenied("no")
        return [(key, "") for key in self.keys]

    def pools(self) -> PlainPools:
        return PlainPools(self.elsewhere, lambda name: self.settings.get(name, "0"), lambda: self.now)


@pytest.mark.parametrize(
    ("infos", "is_plain"),
    [
        (Infos(), True),
        (Infos(keys=("metadata_conf_rbd_qos_iops_limit",)), True),
        (Infos(keys=("metadata_conf_rbd_default_stripe_unit",)), False),
        (Infos(settings={"rbd_default_data_pool": "data"}), False),
        (Infos(settings={"rbd_default_data_pool": ""}), True),
        (Infos(data=None), False),
        (Infos(data=b"validate"), False),
        (Infos(is_denied=True), False),
    ],
    ids=["plain", "other setting", "stripes", "client's data pool", "no data pool", "new", "half validated", "denied"],
)
def test_a_pool_is_plain_when_nothing_but_the_request_decides(infos: Infos, *, is_plain: bool) -> None:
    assert infos.pools().is_plain(1, 1, "") is is_plain


@pytest.mark.parametrize("infos", [Infos(), Infos(is_denied=True)], ids=["plain", "denied"])
def test_what_was_seen_is_believed_for_a_minute(infos: Infos) -> None:
    pools = infos.pools()
    seen = pools.is_plain(1, 1, "")
    reads = infos.reads
    infos.now = 59.0
    assert pools.is_plain(1, 1, "") is seen
    assert infos.reads == reads
    infos.now = 61.0
    assert pools.is_plain(1, 1, "") is seen
    assert infos.reads > reads


def test_a_pool_that_is_validated_meanwhile_is_plain_at_once() -> None:
    infos = Infos(data=None)
    pools = infos.pools()
    assert not pools.is_plain(1, 1, "")
    infos.data = VALIDATED
    assert pools.is_plain(1, 1, "")
