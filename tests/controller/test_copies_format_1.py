"""The same copies on a cluster that knows clone format 1 alone: snaps are protected, and stay while clones need them."""

from collections.abc import Iterator

import pytest

from csi_driver.dev import cluster
from csi_driver.dev.layout import DevCeph, DevOptions
from tests.controller.test_copies import (  # noqa: F401 - collected here a second time
    test_a_copy_reads_what_its_source_read_at_the_cut,
    test_a_random_family_is_deleted_in_random_order,
    test_a_snapshot_is_a_snap_on_its_source_and_says_its_time_and_size,
    test_a_snapshot_outlives_its_volume_and_its_data_goes_with_the_last,
    test_a_source_that_cannot_serve_is_refused_and_nothing_is_left,
    test_copies_go_to_other_pools_and_layouts,
    test_restores_and_clones_at_once_all_succeed_without_aborted,
)

pytestmark = pytest.mark.usefixtures("clean_pool")


@pytest.fixture
def parallel() -> int:
    """A tenth: librbd 16.2 and 18.2 have aborted under 64 threads that make clones of format 1."""
    return 4


@pytest.fixture(scope="module")
def ceph_dev(tmp_path_factory: pytest.TempPathFactory, release: str | None) -> Iterator[DevCeph]:
    directory = tmp_path_factory.mktemp("format-1") / "ceph"
    try:
        yield cluster.up(DevOptions(directory, clone_format_1=True, release=release))
    finally:
        cluster.down(directory, purge=True)
