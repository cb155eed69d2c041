"""The contract of tests/ceph/test_objects.py, asked of the in-memory Ceph."""

from tests.ceph.test_objects import *  # noqa: F403
