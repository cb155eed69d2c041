"""The driver's own seam to Ceph, used by the tests themselves."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import Pool
from csi_driver.ceph.cluster import RadosClusters, Timeouts
from csi_driver.config import read_clusters
from csi_driver.dev.layout import DevCeph


@contextmanager
def operators_pool(ceph: DevCeph) -> Iterator[Pool]:
    """The pool `rbd`, as the operator."""
    operator = Credentials("admin", ceph.keys["admin"])
    with (
        closing(RadosClusters(lambda: read_clusters(ceph.config_json), Timeouts())) as clusters,
        clusters.connect("dev", operator) as cluster,
        cluster.pool("rbd") as opened,
    ):
        yield opened
