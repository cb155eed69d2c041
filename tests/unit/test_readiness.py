"""Readiness: looked at in the background, and one cluster that answers is enough."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest

from csi_driver.errors import ClusterUnavailable, NotReady
from csi_driver.operations import readiness
from csi_driver.operations.readiness import Readiness


class World:
    """Clusters that can be reached or not, and how often all of them have been looked at."""

    def __init__(self, troubles: Mapping[str, Exception | None]) -> None:
        self.troubles = dict(troubles)
        self._changed = threading.Condition()
        self._looks = 0

    def ids(self) -> list[str]:
        with self._changed:
            self._looks += 1
            self._changed.notify_all()
        return list(self.troubles)

    def check(self, cluster_id: str) -> None:
        if trouble := self.troubles[cluster_id]:
            raise trouble

    def await_looks(self, number: int) -> None:
        """Until `number` more looks have begun: the ones before the last are then over."""
        with self._changed:
            wanted = self._looks + number
            assert self._changed.wait_for(lambda: self._looks >= wanted, 30)


Watch = Callable[[World], Readiness]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Starts to watch a world, often; and has seen it once."""
    monkeypatch.setattr(readiness, "_EAGER_S", 0.01)
    monkeypatch.setattr(readiness, "_CALM_S", 0.01)
    with ExitStack() as stack:

        def start(world: World) -> Readiness:
            watched = Readiness(world.ids, world.check)
            stack.callback(watched.rounds.stop)
            watched.rounds.start()
            world.await_looks(2)
            return watched

        yield start


def down(name: str) -> Exception:
    return ClusterUnavailable(f"{name} is down")


def test_before_the_first_look_the_driver_is_not_ready_yet() -> None:
    world = World({"a": None})
    watched = Readiness(world.ids, world.check)
    assert (watched.is_ready(), watched.reason()) == (False, "starting")


@pytest.mark.parametrize("troubles", [{"a": None}, {"a": None, "b": down("b")}, {"a": down("a"), "b": None}], ids=str)
def test_one_cluster_that_answers_is_enough(troubles: dict[str, Exception | None], watch: Watch) -> None:
    assert watch(World(troubles)).is_ready() is True


def test_until_one_was_reached_the_driver_starts_and_the_reason_names_the_trouble_of_each(watch: Watch) -> None:
    world = World({"a": down("a"), "b": down("b")})
    watched = watch(world)
    assert watched.is_ready() is False
    assert "a is down; b is down" in watched.reason()
    world.troubles["b"] = None
    world.await_looks(2)
    assert watched.is_ready() is True
    assert watched.reason() == ""


def test_what_changes_is_seen(watch: Watch) -> None:
    world = World({"a": None})
    watched = watch(world)
    world.troubles["a"] = down("a")
    world.await_looks(2)
    with pytest.raises(NotReady, match="a is down"):
        watched.is_ready()
    assert "a is down" in watched.reason()
    world.troubles["b"] = None
    world.await_looks(2)
    assert watched.is_ready() is True


def test_an_unknown_fault_is_a_trouble_of_its_cluster_and_not_the_end_of_the_watch(watch: Watch) -> None:
    world = World({"a": RuntimeError("a fault in the driver")})
    watched = watch(world)
    assert re.search(r"'a'.*a fault in the driver", watched.reason())
    world.troubles["a"] = None
    world.await_looks(2)
    assert watched.is_ready() is True
