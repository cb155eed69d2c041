"""The sharing out of tests to workers takes effect."""

from unittest.mock import Mock

import pytest

from tests.fixtures.workers import Groups, group_of


def test_the_suites_on_the_machine_are_one_group_and_every_other_file_is_its_own() -> None:
    assert group_of("tests/node/test_stage.py::test_a[x]") == group_of("tests/dev/test_cluster.py::test_b") == "machine"
    assert group_of("tests/unit/test_ids.py::test_a") == "tests/unit/test_ids.py"


def test_groups_are_handed_out_whole(pytestconfig: pytest.Config) -> None:
    """xdist may be told so in vain: it has happened with the marker `xdist_group`."""
    worker = Mock(shutting_down=False)
    config = Mock(getvalue=lambda _: ["popen"], option=Mock(maxfail=0), hook=pytestconfig.hook)
    scheduler = Groups(config, None)
    scheduler.add_node(worker)
    scheduler.add_node_collection(
        worker, ["tests/node/a.py::1", "tests/dev/b.py::2", "tests/node/c.py::3", "tests/unit/d.py::4"]
    )
    scheduler.schedule()
    worker.send_runtest_some.assert_called_with([0, 1, 2])


def test_what_a_worker_died_in_is_not_run_again(pytestconfig: pytest.Config) -> None:
    first, second = Mock(shutting_down=False), Mock(shutting_down=False)
    config = Mock(getvalue=lambda _: ["popen", "popen"], option=Mock(maxfail=0), hook=pytestconfig.hook)
    scheduler = Groups(config, None)
    tests = ["tests/unit/a.py::1", "tests/unit/a.py::2", "tests/unit/a.py::3", "tests/unit/b.py::4"]
    for worker in (first, second):
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, tests)
    scheduler.schedule()
    scheduler.mark_test_complete(first, 0)
    assert scheduler.remove_node(first) == "tests/unit/a.py::2"
    second.send_runtest_some.assert_called_with([2])
