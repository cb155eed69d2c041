"""The contract of tests/ceph/test_ancestry.py, in memory."""

from tests.ceph.test_ancestry import *  # noqa: F403
