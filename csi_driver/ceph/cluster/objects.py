"""Objects with omap keys, over one IoCtx."""

import errno
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress

import rados

from csi_driver.ceph.api import CompareFailed, Create, ObjectExists, ObjectMissing, Write
from csi_driver.ceph.class_writes import ClassWrite
from csi_driver.ceph.encoding import packed, versioned
from csi_driver.tracing import step

_PAGE = 1000  # an OSD returns at most 1,024 entries

_CACHED_CONTEXTS = 128
"""Twice osd_pg_object_context_cache_count, the number of objects of a placement group that an OSD keeps in memory."""

_NOTIFY_MS = 3000
"""Less than the shortest time that an operation is given: a watcher that is slow is no fault of the cluster."""

_LEASE = "lease"
_MAY_RENEW = 1  # LIBRADOS_LOCK_FLAG_MAY_RENEW

Translate = Callable[[str], AbstractContextManager[None]]


class RadosObjects:
    """`Objects` over one IoCtx."""

    def __init__(self, ioctx: rados.Ioctx, translate: Translate, ensured: set[tuple[int, str]]) -> None:
        """`ensured`: objects of this namespace, by pool id, that are known to exist; kept with the connection."""
        self._ioctx = ioctx
        self._translate = translate
        self._ensured = ensured

    def apply(self, name: str, write: Write) -> None:
        with step("objects.apply", name), self._translate(f"write object {self._ioctx.name}/{name}"):
            operation = self._ioctx.create_write_op()
            try:
                self._fill(operation, write)
                self._ioctx.operate_write_op(operation, name)
            except rados.Error as error:
                _raise_expected(error, name)
                raise
            finally:
                self._ioctx.release_write_op(operation)

    def _fill(self, operation: rados.WriteOp, write: Write) -> None:
        if write.create is Create.EXCLUSIVE:
            operation.new(rados.LIBRADOS_CREATE_EXCLUSIVE)
        elif write.create is Create.ENSURE:
            operation.new(0)
        for key, expected in write.compare.items():
            operation.omap_cmp(key, str(expected))  # the bindings refuse subclasses of str
        if write.put:
            self._ioctx.set_omap(operation, tuple(write.put), tuple(write.put.values()))
        if write.drop:
            self._ioctx.remove_omap_keys(operation, tuple(write.drop))
        if write.remove_object:
            operation.remove()

    def read(self, name: str) -> dict[str, str] | None:
        keys: dict[str, str] = {}
        after = ""
        while True:
            page = self._page(name, prefix="", after=after, limit=_PAGE)
            if page is None:
                return None
            keys.update(page)
            # own objects hold few keys: one page far below the OSD's limit is all of it
            if len(page) < _PAGE // 2:
                return keys
            after = page[-1][0]

    def read_key(self, name: str, key: str) -> str | None:
        with step("objects.read_key", name), self._translate(f"read object {self._ioctx.name}/{name}"):
            operation = self._ioctx.create_read_op()
            try:
                found, _ = self._ioctx.get_omap_vals_by_keys(operation, (key,))
                self._ioctx.operate_read_op(operation, name)
                return dict(_decoded(found)).get(key)
            except rados.Error as error:
                if error.errno == errno.ENOENT:
                    return None
                raise
            finally:
                self._ioctx.release_read_op(operation)

    def read_both(self, name: str, key: str, other: str) -> tuple[str | None, dict[str, str] | None]:
        with step("objects.read_both", other), self._translate(f"read object {self._ioctx.name}/{other}"):
            operation = self._ioctx.create_read_op()
            try:
                found, _ = self._ioctx.get_omap_vals(operation, "", "", _PAGE)
                reading = self._ioctx.operate_aio_read_op(operation, other)
                try:
                    value = self.read_key(name, key)
                finally:
                    reading.wait_for_complete()
                keys = _decoded(found) if reading.get_return_value() == 0 else None
            finally:
                self._ioctx.release_read_op(operation)
        # Whatever is not all of it is read again, be it an error, to meet it.
        return value, dict(keys) if keys is not None and len(keys) < _PAGE // 2 else self.read(other)

    def read_data(self, name: str) -> bytes | None:
        with step("objects.read_data", name), self._translate(f"read object {self._ioctx.name}/{name}"):
            try:
                return self._ioctx.read(name)
            except rados.Error as error:
                if error.errno == errno.ENOENT:
                    return None
                raise

    def execute(self, name: str, cls: str, method: str, payload: bytes) -> None:
        with (
            step("objects.execute", name),
            self._translate(f"{cls}.{method} on object {self._ioctx.name}/{name}"),
        ):
            operation = self._ioctx.create_write_op()
            try:
                operation.omap_cmp("csi.absent", "")  # holds for any object, and fails where there is none
                operation.execute(cls, method, payload)
                self._ioctx.operate_write_op(operation, name)
            except rados.Error as error:
                _raise_expected(error, name)
                raise
            finally:
                self._ioctx.release_write_op(operation)

    def write_classes(self, writes: Sequence[ClassWrite]) -> list[Exception | None]:
        with (
            step("objects.write_classes", writes[0].name),
            self._translate(f"write object {self._ioctx.name}/{writes[0].name} and others"),
        ):
            operations = [self._ioctx.create_write_op() for _ in writes]
            try:
                for operation, write in zip(operations, writes, strict=True):
                    _fill_in(operation, write, self._ioctx)
                under_way = [
                    self._ioctx.operate_aio_write_op(operation, write.name)
                    for operation, write in zip(operations, writes, strict=True)
                ]
                for one in under_way:
                    one.wait_for_complete()
            finally:
                for operation in operations:
                    self._ioctx.release_write_op(operation)
            return [_outcome(one.get_return_value(), write.name) for one, write in zip(under_way, writes, strict=True)]

    def ask(self, name: str, cls: str, method: str, payload: bytes, *, most: int = 8192) -> bytes | None:
        with step("objects.ask", name), self._translate(f"{cls}.{method} of object {self._ioctx.name}/{name}"):
            try:
                return self._ioctx.execute(name, cls, method, payload, most)[1]
            except rados.Error as error:
                if error.errno == errno.ENOENT:
                    return None
                raise

    def take_lease(self, name: str, seconds: int) -> bool:
        with step("objects.take_lease", name), self._translate(f"lock object {self._ioctx.name}/{name}"):
            try:
                self._ioctx.lock_exclusive(name, _LEASE, _LEASE, "", seconds, _MAY_RENEW)
            except rados.Error as error:
                if error.errno == errno.EBUSY:
                    return False
                raise
            return True

    def is_leased(self, name: str) -> bool:
        """The reply (Ceph: cls_lock_get_info_reply): version (2 bytes), length (u32), the number of holders (u32), …"""
        raw = self.ask(name, "lock", "get_info", versioned(1, packed(_LEASE)))
        return raw is not None and struct.unpack_from("<I", raw, 6) != (0,)

    def end_lease(self, name: str) -> None:
        with step("objects.end_lease", name), self._translate(f"unlock object {self._ioctx.name}/{name}"):
            try:
                self._ioctx.unlock(name, _LEASE, _LEASE)
            except rados.Error as error:
                if error.errno != errno.ENOENT:
                    raise

    def notify(self, name: str) -> None:
        with step("objects.notify", name), self._translate(f"notify who watches object {self._ioctx.name}/{name}"):
            try:
                self._ioctx.notify(name, "", _NOTIFY_MS)
            except rados.Error as error:
                if error.errno == errno.ENOENT:
                    raise ObjectMissing(name) from error
                if error.errno != errno.ETIMEDOUT:
                    raise

    def ensure(self, name: str) -> None:
        place = (self._ioctx.get_pool_id(), name)
        if place not in self._ensured:
            self.apply(name, Write(create=Create.ENSURE))
            self._ensured.add(place)

    def push_out(self, name: str) -> None:
        """By removals of objects that are not there, with the object's name as locator: they land in its placement group."""
        with step("objects.push_out", name), self._translate(f"look anew at object {self._ioctx.name}/{name}"):
            self._ioctx.set_locator_key(name)
            try:
                for number in range(_CACHED_CONTEXTS):
                    with suppress(rados.ObjectNotFound):
                        self._ioctx.remove_object(f"csi.absent.{number}")
            finally:
                self._ioctx.set_locator_key("")

    def names(self) -> Iterator[str]:
        with step("objects.names", self._ioctx.name), self._translate(f"list the objects of pool {self._ioctx.name}"):
            for found in self._ioctx.list_objects():
                yield found.key

    def list_page(self, name: str, *, prefix: str, after: str, limit: int) -> list[tuple[str, str]]:
        return self._page(name, prefix=prefix, after=after, limit=limit) or []

    def _page(self, name: str, *, prefix: str, after: str, limit: int) -> list[tuple[str, str]] | None:
        with step("objects.read", name), self._translate(f"read object {self._ioctx.name}/{name}"):
            operation = self._ioctx.create_read_op()
            try:
                found, _ = self._ioctx.get_omap_vals(operation, after, prefix, limit)
                self._ioctx.operate_read_op(operation, name)
                return _decoded(found)
            except rados.Error as error:
                if error.errno == errno.ENOENT:
                    return None
                raise
            finally:
                self._ioctx.release_read_op(operation)


def _decoded(pairs: Iterator[tuple[str, bytes | None]]) -> list[tuple[str, str]]:
    """The bindings give None for an empty value."""
    return [(key, (value or b"").decode(errors="replace")) for key, value in pairs]


_EXPECTED: dict[int, type[Exception]] = {
    errno.EEXIST: ObjectExists,
    errno.ENOENT: ObjectMissing,
    errno.ECANCELED: CompareFailed,
}


def _raise_expected(error: rados.Error, name: str) -> None:
    if kind := _EXPECTED.get(error.errno or 0):
        raise kind(name) from error


def _fill_in(operation: rados.WriteOp, write: ClassWrite, ioctx: rados.Ioctx) -> None:
    if write.is_new:
        operation.new(rados.LIBRADOS_CREATE_EXCLUSIVE)
    for cls, method, payload in write.calls:
        operation.execute(cls, method, payload)
    if write.put:
        ioctx.set_omap(operation, tuple(write.put), tuple(write.put.values()))
    if write.is_removal:
        operation.remove()


def _outcome(code: int, name: str) -> Exception | None:
    """Of an asynchronous operation, whose errors librados gives as negative numbers."""
    if code >= 0:
        return None
    if kind := _EXPECTED.get(-code):
        return kind(name)
    return rados.Error(f"write object {name}: {os.strerror(-code)}", -code)
