"""Images that calls share: opened once, closed by the last."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from csi_driver.ceph.open_images import OpenImages


@dataclass
class Image:
    """Counts how many of it are open."""

    opened: int = 0
    most_open: int = 0
    now_open: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)
    closed: threading.Event = field(default_factory=threading.Event)

    def open(self) -> "Image":
        with self.guard:
            self.opened += 1
            self.now_open += 1
            self.most_open = max(self.most_open, self.now_open)
        return self

    def close(self) -> None:
        with self.guard:
            self.now_open -= 1
        self.closed.set()


def test_users_at_one_time_share_one_open_and_the_last_closes() -> None:
    shared, image = OpenImages[Image](), Image()
    with shared.share("key", image.open), shared.share("key", image.open):
        assert (image.opened, image.now_open) == (1, 1)
    assert image.now_open == 0
    with shared.share("key", image.open):
        assert (image.opened, image.now_open) == (2, 1)


def test_other_keys_are_other_images() -> None:
    shared, image = OpenImages[Image](), Image()
    with shared.share("one", image.open), shared.share("two", image.open):
        assert image.now_open == 2


def test_a_failed_open_is_tried_again_by_the_next() -> None:
    shared, image = OpenImages[Image](), Image()

    def fail() -> Image:
        raise OSError("no")

    with pytest.raises(OSError, match="no"), shared.share("key", fail):
        pass
    with shared.share("key", image.open) as found:
        assert found is image


def test_a_user_that_fails_leaves_too() -> None:
    shared, image = OpenImages[Image](), Image()
    with pytest.raises(OSError, match="no"), shared.share("key", image.open):
        raise OSError("no")
    assert image.now_open == 0


def test_what_is_opened_ahead_is_what_its_user_gets_and_closed_after_it() -> None:
    shared, image = OpenImages[Image](), Image()
    with shared.ahead("key", image.open):
        with shared.share("key", image.open) as found:
            assert found is image
        assert image.closed.wait(30), "not only when the caller leaves"
    assert (image.opened, image.now_open) == (1, 0)
    assert not shared._slots


def test_what_is_opened_ahead_and_not_used_is_closed_when_the_caller_leaves() -> None:
    shared, image = OpenImages[Image](), Image()
    with shared.ahead("key", image.open):
        pass
    shared.close()
    assert image.now_open == 0
    assert not shared._slots


def test_nobody_waits_for_a_close_but_who_closes_them_all() -> None:
    shared, image = OpenImages[Image](), Image()
    close, may_close = image.close, threading.Event()

    def close_slowly() -> None:
        assert may_close.wait(30)
        close()

    image.close = close_slowly  # type: ignore[method-assign]
    with shared.ahead("key", image.open), shared.share("key", image.open):
        pass
    assert image.now_open == 1
    with ThreadPoolExecutor(1) as threads:
        closing = threads.submit(shared.close)
        may_close.set()
        closing.result(30)
        assert image.now_open == 0


def test_who_leaves_early_waits_for_the_open_whose_pool_is_its_own() -> None:
    shared, image = OpenImages[Image](), Image()
    is_opening, may_open = threading.Event(), threading.Event()
    left = threading.Event()

    def open_slowly() -> Image:
        is_opening.set()
        assert may_open.wait(30)
        assert not left.is_set()
        return image.open()

    def leave_early() -> None:
        with shared.ahead("key", open_slowly):
            assert is_opening.wait(30)
        left.set()

    with ThreadPoolExecutor(1) as threads:
        leaving = threads.submit(leave_early)
        assert is_opening.wait(30)
        assert not left.wait(0.05)
        may_open.set()
        leaving.result(30)
    shared.close()
    assert (image.opened, image.now_open) == (1, 0)


def test_an_image_opened_ahead_for_two_uses_is_closed_after_the_second() -> None:
    shared, image = OpenImages[Image](), Image()
    with shared.ahead("key", image.open, uses=2):
        for _ in range(2):
            assert not image.closed.is_set()
            with shared.share("key", image.open):
                pass
        assert image.closed.wait(10)
    assert (image.opened, image.now_open) == (1, 0)


def test_a_failed_open_ahead_is_met_by_the_user_alone() -> None:
    shared = OpenImages[Image]()

    def fail() -> Image:
        raise OSError("no")

    with shared.ahead("key", fail):
        pass
    with pytest.raises(OSError, match="no"), shared.ahead("key", fail), shared.share("key", fail):
        pass
    assert not shared._slots


def test_a_failed_close_behind_the_answer_is_logged() -> None:
    shared, image = OpenImages[Image](), Image()

    def fail() -> None:
        raise OSError("no")

    image.close = fail  # type: ignore[method-assign]
    with capture_logs() as said:
        with shared.ahead("key", image.open), shared.share("key", image.open):
            pass
        shared.close()
    assert [line["log_level"] for line in said] == ["warning"]


def test_16_threads_never_see_a_closed_image_nor_two_open_ones() -> None:
    shared, image = OpenImages[Image](), Image()

    def use(_: int) -> None:
        for _ in range(500):
            with shared.share("key", image.open) as found:
                assert found.now_open == 1

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(use, range(16)))
    assert (image.most_open, image.now_open) == (1, 0)
    assert not shared._slots


def test_32_threads_that_open_ahead_never_see_a_closed_image_nor_two_open_ones() -> None:
    """More than are opened ahead at one time."""
    shared, image = OpenImages[Image](), Image()

    def use(_: int) -> None:
        for number in range(100):
            with shared.ahead("key", image.open):
                if number % 3:
                    with shared.share("key", image.open) as found:
                        assert found.now_open == 1

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(use, range(32)))
    shared.close()
    assert (image.most_open, image.now_open) == (1, 0)
    assert not shared._slots
