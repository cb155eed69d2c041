"""The contract of tests/ceph/test_groups.py, asked of the in-memory Ceph."""

from tests.ceph.test_groups import *  # noqa: F403
