"""What pools hold and may hold: the contract of `Cluster.usage` in csi_driver/ceph/api."""

from csi_driver.ceph.api import Pool


def test_the_pools_of_rbd_are_told_in_order(pool: Pool) -> None:
    pools = pool.cluster.rbd_pools()
    assert list(pools) == sorted(pools)
    assert pool.pool_id in pools
    assert set(pools) <= set(pool.cluster.pool_ids().values())


def test_the_usage_of_every_pool_is_told(pool: Pool) -> None:
    """Without quotas, unless somebody sets them."""
    usage = pool.cluster.usage()
    assert set(usage) == set(pool.cluster.pool_names())
    here = usage[pool.name]
    assert here.free_bytes > 0
    assert here.stored_bytes >= 0
    assert here.objects >= 0
    assert (here.quota_bytes, here.quota_objects) == (0, 0)
