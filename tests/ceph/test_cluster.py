"""Connections: who may, which one a call gets, when it is given up, and what never shows."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from csi_driver.addresses import ClusterEntry, Credentials
from csi_driver.ceph.api import Create, Pool, Write
from csi_driver.ceph.cluster import RadosClusters, Timeouts, clusters
from csi_driver.config import read_clusters
from csi_driver.dev.layout import DevCeph
from csi_driver.errors import AccessDenied, ClusterUnavailable, InvalidRequest, PoolMissing, Unauthenticated
from csi_driver.model import ImageLayout

MIB = 1 << 20
PLAIN = ImageLayout(("layering",))
OTHER_KEY = "AQBfJAFrAAAAABAA+pU5pUf/WUWiLjE1Tz+GSg=="
_ASKED = 6
"""In the form of a cephx key, and nobody's."""


@pytest.fixture
def fresh(ceph_dev: DevCeph) -> Iterator[RadosClusters]:
    """Clusters without any connection yet."""
    opened = RadosClusters(lambda: read_clusters(ceph_dev.config_json), Timeouts())
    yield opened
    opened.close()


@pytest.fixture
def admin(ceph_dev: DevCeph) -> Credentials:
    return Credentials("admin", ceph_dev.keys["admin"])


@pytest.fixture
def new_user(ceph_dev: DevCeph) -> Iterator[Callable[[Mapping[str, str]], Credentials]]:
    """Makes a user with capabilities; removed after the test."""
    made: list[str] = []

    def new(caps: Mapping[str, str]) -> Credentials:
        made.append(f"client.contract-{len(made)}")
        words = [word for pair in caps.items() for word in pair]
        answer = ceph_dev.ceph("auth", "get-or-create", made[-1], *words, "--format", "json")
        return Credentials(made[-1].removeprefix("client."), json.loads(answer)[0]["key"])

    yield new
    for user in made:
        ceph_dev.ceph("auth", "rm", user)


def address(clusters: RadosClusters, credentials: Credentials) -> str:
    with clusters.connect("dev", credentials) as cluster:
        return cluster.address


# ── who may ──


def refusal_of(clusters: RadosClusters, who: Credentials) -> Unauthenticated:
    """What a cluster answers to whom it does not know; asked again when it does not, as a Ceph 20.2 often."""
    for _ in range(_ASKED):
        with pytest.raises((Unauthenticated, ClusterUnavailable)) as refused:
            address(clusters, who)
        if isinstance(refused.value, Unauthenticated):
            return refused.value
    raise AssertionError(refused.value)


def test_a_wrong_key_and_an_unknown_user_are_told_alike(fresh: RadosClusters, provisioner: Credentials) -> None:
    """By the cluster and the user, and never by the key; the right key works afterwards."""
    for who in (Credentials(provisioner.user, OTHER_KEY), Credentials("nobody", provisioner.key)):
        refused = refusal_of(fresh, who)
        assert f"'dev' as user '{who.user}'" in str(refused)
        assert who.key not in f"{refused!r} {refused.__cause__!r}"
    assert address(fresh, provisioner)


@pytest.mark.parametrize("user", ["", "a b", "größe", "-c", "client.x", 'a"b', "x" * 128])
def test_a_strange_user_is_an_unknown_one(fresh: RadosClusters, provisioner: Credentials, user: str) -> None:
    with pytest.raises(Unauthenticated):
        address(fresh, Credentials(user, provisioner.key))


def test_a_user_without_capabilities_for_the_pool_is_denied_by_each_call(
    fresh: RadosClusters, new_user: Callable[[Mapping[str, str]], Credentials]
) -> None:
    who = new_user({"mon": "allow r"})
    with fresh.connect("dev", who) as cluster, cluster.pool("rbd") as pool:
        calls: list[Callable[[], Any]] = [
            lambda: pool.objects.read("csi.volumes.default"),
            lambda: pool.objects.apply("contract.denied", Write(create=Create.ENSURE)),
            lambda: pool.images.create("contract-denied", MIB, PLAIN),
            lambda: pool.images.inspect("contract-denied"),
            lambda: pool.images.find_id("contract-denied"),
            lambda: pool.images.remove("contract-denied"),
            lambda: pool.images.move_to_trash("contract-denied"),
            lambda: cluster.blocklist("127.0.0.1:0/1"),
        ]
        for call in calls:
            with pytest.raises(AccessDenied, match=f"client.{who.user}"):
                call()
        assert cluster.address == address(fresh, who), "a denial is no reason to connect anew"


def test_a_user_of_one_pool_is_denied_in_another(
    fresh: RadosClusters, new_user: Callable[[Mapping[str, str]], Credentials]
) -> None:
    who = new_user({"mon": "profile rbd", "osd": "profile rbd pool=second"})
    with fresh.connect("dev", who) as cluster:
        with cluster.pool("second") as pool:
            assert pool.objects.read("contract.none") is None
        with cluster.pool("rbd") as pool, pytest.raises(AccessDenied, match=r"rbd/contract\.none"):
            pool.objects.read("contract.none")


# ── where ──


@pytest.mark.parametrize("pool", ["no-such-pool", "größe", "", 9999, (1 << 63) - 1])
def test_a_pool_that_is_not_there_is_named(fresh: RadosClusters, provisioner: Credentials, pool: str | int) -> None:
    with (
        fresh.connect("dev", provisioner) as cluster,
        pytest.raises(PoolMissing, match=f"'dev' has no pool {pool!r}"),
        cluster.pool(pool),
    ):
        pass


def test_a_pool_is_the_same_by_name_and_by_id(fresh: RadosClusters, provisioner: Credentials) -> None:
    with fresh.connect("dev", provisioner) as cluster, cluster.pool("second") as by_name:
        with cluster.pool(by_name.pool_id) as by_id:
            assert (by_id.name, by_id.pool_id, by_id.namespace) == ("second", by_name.pool_id, "")
            told = cluster.image_address(by_id, "image")
        assert told.spec == "second/image"
        assert told.credentials == provisioner


def test_a_namespace_is_a_place_of_its_own(ceph_dev: DevCeph, fresh: RadosClusters, provisioner: Credentials) -> None:
    """Objects and images of the same name, one inside and one outside; the pool's id is one."""
    inside_user = Credentials("ns", ceph_dev.keys["ns"])
    with (
        fresh.connect("dev", provisioner) as outer,
        outer.pool("second") as outside,
        fresh.connect("dev-ns", inside_user) as inner,
        inner.pool("second") as inside,
    ):
        assert inside.pool_id == outside.pool_id
        assert inner.image_address(inside, "image").spec == "second/ns/image"
        for place, size in ((outside, MIB), (inside, 2 * MIB)):
            place.objects.apply("contract.place", Write(create=Create.EXCLUSIVE, put={"place": place.namespace}))
            place.images.create("contract-place", size, PLAIN)
        for place, size in ((outside, MIB), (inside, 2 * MIB)):
            assert place.objects.read("contract.place") == {"place": place.namespace}
            assert place.images.inspect("contract-place").size_bytes == size
            place.objects.apply("contract.place", Write(remove_object=True))
            place.images.remove("contract-place")


def test_a_namespace_that_was_not_made_is_named(ceph_dev: DevCeph, provisioner: Credentials) -> None:
    entry = ClusterEntry("dev", read_clusters(ceph_dev.config_json)["dev"].monitors, "not-made")
    with (
        contextlib.closing(RadosClusters(lambda: {"dev": entry}, Timeouts())) as opened,
        opened.connect("dev", provisioner) as cluster,
        cluster.pool("rbd") as pool,
    ):
        with pytest.raises(InvalidRequest, match="'not-made' of pool 'rbd'"):
            pool.images.create("contract-none", MIB, PLAIN)
        assert pool.images.find_id("contract-none") is None


def test_an_unknown_cluster_is_refused_with_those_that_are_known(
    fresh: RadosClusters, provisioner: Credentials
) -> None:
    with pytest.raises(InvalidRequest, match="'none' is not in the clusters file; it has: dev, dev-ns"):
        fresh.entry("none")
    with pytest.raises(InvalidRequest, match="'none'"), fresh.connect("none", provisioner):
        pass


def test_without_credentials_the_entry_s_own_are_used_and_else_asked_for(ceph_dev: DevCeph) -> None:
    entries = read_clusters(ceph_dev.config_json)
    entries["bare"] = ClusterEntry("bare", entries["dev"].monitors)
    with contextlib.closing(RadosClusters(lambda: entries, Timeouts())) as opened:
        with opened.connect("dev", None) as cluster:
            assert cluster.user == "provisioner"
        with pytest.raises(InvalidRequest, match=r"userID and userKey.*'bare'"), opened.connect("bare", None):
            pass


@pytest.mark.parametrize("monitor", ["127.0.0.1:1", "127.0.0.1:port", "no-such-host.invalid", "-"])
def test_a_cluster_that_does_not_answer_is_unavailable_in_time(provisioner: Credentials, monitor: str) -> None:
    """Also while its name cannot be resolved: that is no verdict on the user."""
    with contextlib.closing(
        RadosClusters(lambda: {"gone": ClusterEntry("gone", (monitor,))}, Timeouts(connect_s=1))
    ) as opened:
        began = time.monotonic()
        with pytest.raises(ClusterUnavailable, match=f"'gone'.*{monitor}"), opened.connect("gone", provisioner):
            pass
        with pytest.raises(ClusterUnavailable, match=f"'gone'.*{monitor}"):
            opened.check("gone")
        assert time.monotonic() - began < 8


def test_a_cluster_that_answers_is_found_with_and_without_credentials(ceph_dev: DevCeph) -> None:
    entries = read_clusters(ceph_dev.config_json)
    entries["bare"] = ClusterEntry("bare", entries["dev"].monitors)
    with contextlib.closing(RadosClusters(lambda: entries, Timeouts())) as opened:
        opened.check("dev")
        opened.check("bare")


# ── which connection ──


def test_a_user_has_one_connection_and_another_user_another(
    fresh: RadosClusters, provisioner: Credentials, admin: Credentials
) -> None:
    first = address(fresh, provisioner)
    assert address(fresh, provisioner) == first
    assert address(fresh, admin) != first
    assert address(fresh, provisioner) == first


def test_a_connection_given_up_is_replaced_and_serves_who_still_has_it(
    fresh: RadosClusters, provisioner: Credentials
) -> None:
    with fresh.connect("dev", provisioner) as old, old.pool("rbd") as pool:
        old.replace()
        assert address(fresh, provisioner) != old.address
        assert pool.objects.read("contract.none") is None
    assert address(fresh, provisioner) != old.address


def test_an_idle_connection_is_closed_when_another_is_asked_for(
    fresh: RadosClusters, provisioner: Credentials, admin: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in use is not idle."""
    first = address(fresh, provisioner)
    monkeypatch.setattr(clusters, "_IDLE_SECONDS", -1.0)
    with fresh.connect("dev", admin) as used, used.pool("rbd") as pool:
        assert address(fresh, provisioner) != first
        assert pool.objects.read("contract.none") is None
        assert used.address == address(fresh, admin)


def until_unavailable(call: Callable[[], object]) -> ClusterUnavailable:
    """The error once the OSDs have the map in which this client is blocklisted."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            call()
        except ClusterUnavailable as cut_off:
            return cut_off
    raise AssertionError("the blocklisted client was never cut off")


def look_at_object(pool: Pool) -> object:
    return pool.objects.read("contract.none")


def look_at_image(pool: Pool) -> object:
    return pool.images.find_id("contract-none")


def make_image(pool: Pool) -> None:
    with contextlib.suppress(Exception):
        pool.images.remove("contract-blocklist")
    pool.images.create("contract-blocklist", MIB, PLAIN)


@pytest.mark.parametrize("call", [look_at_object, look_at_image, make_image], ids=lambda call: call.__name__)
def test_a_blocklisted_connection_says_so_and_the_next_one_is_another(
    fresh: RadosClusters, provisioner: Credentials, admin: Credentials, call: Callable[[Pool], object]
) -> None:
    with fresh.connect("dev", provisioner) as cut_off, cut_off.pool("rbd") as pool:
        assert pool.objects.read("contract.none") is None
        with fresh.connect("dev", admin) as other:
            other.blocklist(cut_off.making_address if call is make_image else cut_off.address)
        assert "blocklist" in str(until_unavailable(lambda: call(pool)))
    with fresh.connect("dev", provisioner) as new, new.pool("rbd") as pool:
        assert new.address != cut_off.address
        assert pool.objects.read("contract.none") is None
        with contextlib.suppress(Exception):
            pool.images.remove("contract-blocklist")


def test_a_provisioner_may_blocklist_and_the_cluster_knows(
    ceph_dev: DevCeph, fresh: RadosClusters, provisioner: Credentials
) -> None:
    """Fencing needs no more than the profile that the driver's user has anyway."""
    with fresh.connect("dev", provisioner) as cluster:
        cluster.blocklist("127.0.0.1:0/4711")
    assert "127.0.0.1:0/4711" in ceph_dev.ceph("osd", "blocklist", "ls")
    ceph_dev.ceph("osd", "blocklist", "rm", "127.0.0.1:0/4711")


# ── what never shows ──


def test_no_key_is_ever_printed(ceph_dev: DevCeph, provisioner: Credentials) -> None:
    """Not the right one, and none that librados would complain of on stderr past all of its log settings."""
    keys = ["c2VjcmV0LXNlY3JldA==", "not base64 at all", "AQ==", OTHER_KEY[:-4], OTHER_KEY[:-4] + "AAAA", OTHER_KEY]
    outcome = subprocess.run(
        [sys.executable, "-m", "tests.ceph.connecting", str(ceph_dev.config_json)],
        env={**os.environ, "KEYS": "|".join([*keys, provisioner.key])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert [line.split()[0] for line in outcome.stdout.splitlines()] == ["refused"] * len(keys) + ["connected"]
    assert "connected" in outcome.stderr, "the log is there"
    for key in (*keys, provisioner.key):
        assert key not in outcome.stdout + outcome.stderr
