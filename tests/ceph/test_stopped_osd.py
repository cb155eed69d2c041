"""An OSD that stands still while images are made, longer than librados waits for all else: they end, and leave nothing.

An operation that librados has given up is carried out all the same when the OSD goes on, after librbd has taken back what
came before it: of twelve creates that gave up so one left a header or an object map (docs/decisions/0034).
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing

import pytest

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import CloneSource, Pool
from csi_driver.ceph.cluster import RadosClusters, Timeouts
from csi_driver.config import read_clusters
from csi_driver.dev.inventory import Place, inventory
from csi_driver.dev.layout import DevCeph
from csi_driver.errors import ClusterTimeout
from csi_driver.model import ImageLayout
from tests.ceph.conftest import SNAP
from tests.osd import stopped_osd

MIB = 1 << 20
FEATURES = ImageLayout(("layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"))
OPERATION_S = 2
STOPPED_S = 3 * OPERATION_S
"""So long that what librbd takes back would be given up as well."""
EACH = 5


@pytest.fixture
def impatient(ceph_dev: DevCeph, provisioner: Credentials) -> Iterator[Pool]:
    opened = RadosClusters(lambda: read_clusters(ceph_dev.config_json), Timeouts(operation_s=OPERATION_S))
    with closing(opened), opened.connect("dev", provisioner) as cluster, cluster.pool("rbd") as pool:
        yield pool


@pytest.fixture
def source(impatient: Pool, image: str) -> CloneSource:
    impatient.images.create(image, 8 * MIB, FEATURES)
    image_id = impatient.images.find_id(image)
    assert image_id
    impatient.images.cut(image_id, SNAP, most=9)
    return CloneSource(impatient, image, SNAP)


@pytest.mark.parametrize("begun_s", [0.0, 0.02])
def test_images_are_made_when_the_osd_goes_on_and_nothing_else_stays(
    ceph_dev: DevCeph, impatient: Pool, source: CloneSource, begun_s: float
) -> None:
    images = impatient.images
    before = inventory(ceph_dev, Place("rbd"))
    calls: dict[str, Callable[[str], object]] = {
        "made": lambda name: images.create(name, 8 * MIB, FEATURES),
        "cloned": lambda name: images.clone(source, name, FEATURES),
        "grouped": impatient.groups.create,
    }
    names = {f"contract-{kind}-{number}": call for number in range(EACH) for kind, call in calls.items()}
    with ThreadPoolExecutor(len(names)) as threads:
        making = [threads.submit(call, name) for name, call in names.items()]
        time.sleep(begun_s)  # at another step of the calls each time
        with stopped_osd(ceph_dev):
            began = time.monotonic()
            with pytest.raises(ClusterTimeout):  # all else is bounded
                impatient.objects.read("contract.none")
            time.sleep(max(STOPPED_S - (time.monotonic() - began), 0))
            assert not all(one.done() for one in making), "some of them stood in the OSD"
        assert wait(making, 60).not_done == set()
    for one in making:
        one.result()
    for name, call in names.items():
        if call is calls["grouped"]:
            impatient.groups.remove(name)
        else:
            assert images.inspect(name).size_bytes == 8 * MIB
            images.remove(name)
    assert inventory(ceph_dev, Place("rbd")) == before
