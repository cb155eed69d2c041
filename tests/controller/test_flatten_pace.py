"""How fast and how many copies are flattened, whom that gives way to, and what is said of it."""

import re
from collections.abc import Callable

import grpc
import pytest

from csi_driver.ceph.api import Pool
from csi_driver.dev.layout import DevCeph
from tests import image_data
from tests.client import Refusal
from tests.controller.calls import Calls
from tests.controller.test_flatten import ALWAYS, HELD_BACK, MIB, await_flat, await_true, image_of, queue_of
from tests.driver import DriverProcess
from tests.fixtures.driver import StartDriver

pytestmark = pytest.mark.usefixtures("clean_pool")

SMALL_OBJECTS = {"objectSize": "65536"}
"""So that there are many moments in one flatten, also of 8 MiB."""

LONG_S = 300.0

Start = Callable[..., tuple[DriverProcess, Calls]]


@pytest.fixture
def start(ceph_dev: DevCeph, start_driver: StartDriver) -> Start:
    def started(*flags: str, node_id: str = "node-1") -> tuple[DriverProcess, Calls]:
        driver = start_driver("--controller", *flags, clusters=ceph_dev.config_json, node_id=node_id)
        return driver, Calls(driver.rpc, ceph_dev.secrets("provisioner"))

    return started


def test_a_flatten_gives_way_to_a_client_that_opens_its_image_and_ends_with_its_volume(
    start: Start, ceph_dev: DevCeph, pool: Pool
) -> None:
    driver, calls = start("--flatten-rate", "0.1")
    source = calls.create("source", 8 * MIB)
    copy = calls.create("copy", 0, source=source, parameters={**ALWAYS, **SMALL_OBJECTS})
    await_true(lambda: "flatten begins" in driver.log_text(), "it is flattened", LONG_S)
    with image_data.opened(ceph_dev, image_of(copy)):
        await_true(lambda: "flatten is broken off" in driver.log_text(), "it gives way", LONG_S)
        assert pool.images.inspect(image_of(copy)).has_parent
    assert [entry.image_name for entry in queue_of(pool).entries()] == [image_of(copy)]
    calls.delete_until_done(copy.volume_id)
    await_true(lambda: not queue_of(pool).entries(), "a deleted volume is not flattened", LONG_S)
    calls.delete_until_done(source.volume_id)
    assert "flatten ended" not in driver.log_text()


def test_a_volume_that_is_deleted_while_it_is_flattened_is_flattened_no_further(start: Start, pool: Pool) -> None:
    driver, calls = start("--flatten-rate", "0.1")
    source = calls.create("source", 8 * MIB)
    copy = calls.create("copy", 0, source=source, parameters={**ALWAYS, **SMALL_OBJECTS})
    await_true(lambda: "flatten begins" in driver.log_text(), "it is flattened", LONG_S)
    for volume in (copy, source):
        calls.delete_until_done(volume.volume_id)
    await_true(lambda: not queue_of(pool).entries(), "it is off the queue", LONG_S)
    assert "flatten ended" not in driver.log_text()


def test_a_create_that_waits_says_how_far_the_flatten_is_whoever_does_it(start: Start, pool: Pool) -> None:
    _, working = start("--flatten-rate", "1")
    _, other = start(node_id="node-2")
    source = working.create("source", 8 * MIB)
    for calls, said in ((working, r"[1-9][0-9]*% are done; "), (other, r"[1-9][0-9]*% are done, by another process; ")):

        def says(calls: Calls = calls, said: str = said) -> bool:
            answer = calls.try_create("copy", 0, source=source, parameters={**HELD_BACK, **SMALL_OBJECTS})
            assert isinstance(answer, Refusal), "it was flattened before it was told"
            assert answer.code is grpc.StatusCode.ABORTED
            return re.search(said, answer.message) is not None

        await_true(says, said, LONG_S)
    copy = other.create_until_done("copy", 0, source=source, parameters={**HELD_BACK, **SMALL_OBJECTS})
    await_flat(pool, copy)
    for volume in (copy, source):
        working.delete_until_done(volume.volume_id)


def test_a_create_that_waits_where_nobody_flattens_says_so(start: Start, pool: Pool) -> None:
    _, idle = start("--flatten-at-once", "0")
    source = idle.create("source", 8 * MIB)
    refused = idle.try_create("copy", 0, source=source, parameters=HELD_BACK)
    assert isinstance(refused, Refusal)
    assert "no process that flattens is alive in this pool" in refused.message
    _, working = start(node_id="node-2")
    copy = working.create_until_done("copy", 0, source=source, parameters=HELD_BACK)
    await_flat(pool, copy)
    for volume in (copy, source):
        idle.delete_until_done(volume.volume_id)


def test_as_many_are_flattened_at_once_as_a_flag_says(start: Start, pool: Pool) -> None:
    driver, calls = start("--flatten-at-once", "3", "--flatten-rate", "2")
    source = calls.create("source", 8 * MIB)
    copies = [calls.create(f"copy-{n}", 0, source=source, parameters={**ALWAYS, **SMALL_OBJECTS}) for n in range(3)]
    await_true(lambda: not queue_of(pool).entries(), "the queue is worked off", LONG_S)
    for copy in copies:
        await_flat(pool, copy)
    before_the_first_end = driver.log_text().partition("flatten ended")[0]
    assert before_the_first_end.count("flatten begins") == 3
    for volume in (*copies, source):
        calls.delete_until_done(volume.volume_id)
