"""Fixtures of all tests; each family in its own file under fixtures/."""

from csi_driver import logs

logs.set_up("warning", "text")

pytest_plugins = [
    "tests.fixtures.attacher",
    "tests.fixtures.ceph",
    "tests.fixtures.driver",
    "tests.fixtures.hung_tests",
    "tests.fixtures.run_directory",
    "tests.fixtures.seconds",
    "tests.fixtures.vault",
    "tests.fixtures.workers",
]
