"""The contract of tests/ceph/test_snaps.py, asked of the in-memory Ceph."""

from tests.ceph.test_snaps import *  # noqa: F403
