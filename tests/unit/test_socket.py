"""The endpoint and its socket file: what is replaced, what is not, and what is left."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from csi_driver.rpc.socket import SocketLock, SocketTaken, parse_endpoint

NewLock = Callable[[Path], SocketLock]


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [
        ("unix:///csi/csi.sock", "/csi/csi.sock"),
        ("unix:/csi/csi.sock", "/csi/csi.sock"),
        ("unix:///größe.sock", "/größe.sock"),
        (f"unix:///{'x' * 101}.sock", f"/{'x' * 101}.sock"),
    ],
)
def test_an_endpoint_is_an_absolute_path(endpoint: str, path: str) -> None:
    assert parse_endpoint(endpoint) == Path(path)


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("", "unix:///absolute"),
        ("/csi/csi.sock", "unix:///absolute"),
        ("tcp://127.0.0.1:1", "unix:///absolute"),
        ("unix://csi.sock", "unix:///absolute"),
        ("unix:csi.sock", "unix:///absolute"),
        ("unix:", "unix:///absolute"),
        ("UNIX:///csi.sock", "unix:///absolute"),
        ("unix:///csi", r"end in \.sock"),
        ("unix:///csi.sock/", r"end in \.sock"),
        (f"unix:///{'x' * 102}.sock", "107"),
        (f"unix:///{'é' * 51}.sock", "107"),
    ],
)
def test_what_is_no_endpoint_is_refused_by_its_form(endpoint: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_endpoint(endpoint)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "csi.sock"


@pytest.fixture
def new_lock() -> Iterator[NewLock]:
    with ExitStack() as stack:

        def new(path: Path) -> SocketLock:
            lock = SocketLock(path)
            stack.callback(lock.release)
            return lock

        yield new


def listen(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()
    return server


def is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        return client.connect_ex(str(path)) == 0


def test_a_socket_file_whose_server_died_is_cleared_away(path: Path, new_lock: NewLock) -> None:
    listen(path).close()
    assert path.is_socket()
    new_lock(path).take()
    assert not path.exists()


def test_the_socket_of_a_server_that_lives_is_not_taken(path: Path, new_lock: NewLock) -> None:
    """Whoever it is: it goes on to be served."""
    with listen(path):
        with pytest.raises(SocketTaken, match=f"another server lives at {path}"):
            new_lock(path).take()
        assert is_served(path)


@pytest.mark.parametrize("kind", ["file", "directory", "link to a socket", "dangling link", "fifo"])
def test_what_is_no_socket_is_not_replaced(kind: str, path: Path, tmp_path: Path, new_lock: NewLock) -> None:
    with ExitStack() as stack:
        if kind == "file":
            path.write_text("data")
        elif kind == "directory":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            target = tmp_path / "target"
            path.symlink_to(target)
            if kind == "link to a socket":
                stack.enter_context(listen(target))
        before = path.lstat()
        with pytest.raises(SocketTaken, match=f"{path} exists and is no socket"):
            new_lock(path).take()
        assert path.lstat() == before


def test_a_path_is_served_by_one_driver_at_a_time(path: Path, new_lock: NewLock) -> None:
    """Also before the first has made its socket file."""
    first = new_lock(path)
    first.take()
    with pytest.raises(SocketTaken, match=f"another rbd-csi serves {path}"):
        new_lock(path).take()
    first.release()
    new_lock(path).take()


def test_one_directory_under_two_names_is_one_place(path: Path, tmp_path: Path, new_lock: NewLock) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    new_lock(path).take()
    with pytest.raises(SocketTaken):
        new_lock(tmp_path / "link" / path.name).take()
    new_lock(tmp_path / "other.sock").take()


@pytest.mark.parametrize("parent", ["none", "file"])
def test_a_directory_that_is_not_there_is_named(parent: str, tmp_path: Path, new_lock: NewLock) -> None:
    (tmp_path / "file").write_text("")
    missing = tmp_path / parent / "deep"
    with pytest.raises(SocketTaken, match=f"directory {missing}"):
        new_lock(missing / "csi.sock").take()


def test_the_own_socket_file_goes_with_the_lock(path: Path, new_lock: NewLock) -> None:
    lock = new_lock(path)
    lock.take()
    with listen(path):
        lock.made()
        lock.release()
    assert not path.exists()


def test_a_socket_file_that_another_server_has_made_since_stays(path: Path, new_lock: NewLock) -> None:
    lock = new_lock(path)
    lock.take()
    with listen(path) as own:
        lock.made()
        # the new file must not get the inode number of the old one, which is in use until here
        other = path.with_name("other.sock")
        with listen(other):
            own.close()
            other.replace(path)
            lock.release()
            assert is_served(path)


def test_a_socket_file_that_is_gone_already_is_no_trouble(path: Path, new_lock: NewLock) -> None:
    lock = new_lock(path)
    lock.take()
    with listen(path):
        lock.made()
        path.unlink()
        lock.release()
    new_lock(path).take()


def test_a_lock_that_made_nothing_removes_nothing(path: Path, new_lock: NewLock) -> None:
    with listen(path):
        refused = new_lock(path)
        with pytest.raises(SocketTaken):
            refused.take()
        refused.release()
        assert is_served(path)
