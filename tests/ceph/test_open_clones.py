"""Clones that are opened and closed at once by many threads: librbd may not abort (docs/decisions/0038).

As a program: `python -m tests.ceph.test_open_clones CLUSTERS KEY IMAGE` opens and closes each clone of IMAGE again and again,
from many threads through one connection, and prints how often. It runs with memory that is overwritten when it is freed: then
librbd with two threads for callbacks dies within three seconds, where it otherwise mostly gets away with it.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import rbd

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import CloneSource, Images, Pool
from csi_driver.ceph.cluster import RadosClusters, Timeouts
from csi_driver.config import read_clusters
from csi_driver.dev.layout import DevCeph
from csi_driver.model import ImageLayout
from tests.ceph.conftest import SNAP

_CLONES = 4
_THREADS = 16
_SECONDS = 12.0
_LAYOUT = ImageLayout(("layering", "exclusive-lock", "object-map"))


def test_clones_that_are_opened_and_closed_at_once_end_no_process(pool: Pool, image: str, ceph_dev: DevCeph) -> None:
    pool.images.create(image, 1 << 30, _LAYOUT)
    image_id = pool.images.find_id(image)
    assert image_id
    pool.images.cut(image_id, SNAP, most=1)
    clones = [f"{image}-clone-{number}" for number in range(_CLONES)]
    try:
        for clone in clones:
            pool.images.clone(CloneSource(pool, image, SNAP), clone, _LAYOUT)
        command = (sys.executable, "-m", __name__, str(ceph_dev.config_json), ceph_dev.keys["provisioner"], image)
        environment = os.environ | {"MALLOC_PERTURB_": "85", "PYTHONFAULTHANDLER": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        assert int(done.stdout.splitlines()[-1]) > _THREADS, "hardly any was opened"
    finally:
        for clone in clones:
            pool.images.remove(clone)


def _open_until(end: float, images: Images, clone: str) -> int:
    opens = 0
    while time.monotonic() < end:
        with rbd.Image(images.raw, clone, read_only=True):
            opens += 1
    return opens


def main() -> None:
    clusters_file, key, image = sys.argv[1:]
    clusters = RadosClusters(lambda: read_clusters(Path(clusters_file)), Timeouts())
    end = time.monotonic() + _SECONDS
    with (
        clusters.connect("dev", Credentials("provisioner", key)) as cluster,
        cluster.pool("rbd") as pool,
        ThreadPoolExecutor(_THREADS) as threads,
    ):
        opening = [
            threads.submit(_open_until, end, pool.images, f"{image}-clone-{number % _CLONES}")
            for number in range(_THREADS)
        ]
        sys.stdout.write(f"{sum(one.result() for one in opening)}\n")
    clusters.close()


if __name__ == "__main__":
    main()
