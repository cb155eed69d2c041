"""The contract of tests/ceph/test_usage.py, asked of the in-memory Ceph."""

from tests.ceph.test_usage import *  # noqa: F403
