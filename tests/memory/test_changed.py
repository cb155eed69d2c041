"""The contract of tests/ceph/test_changed.py, asked of the in-memory Ceph."""

from tests.ceph.test_changed import *  # noqa: F403
