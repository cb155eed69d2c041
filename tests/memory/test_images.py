"""The contract of tests/ceph/test_images.py, asked of the in-memory Ceph."""

from tests.ceph.test_images import *  # noqa: F403
