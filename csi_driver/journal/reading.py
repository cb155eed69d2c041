"""Reading the journal, and the one write by which an entry is changed."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from csi_driver.ceph.api import CompareFailed, ObjectMissing, Pool, Write
from csi_driver.errors import Busy
from csi_driver.journal import layout
from csi_driver.journal.entries import Entry
from csi_driver.journal.layout import Kind

E = TypeVar("E", bound=Entry)
F = TypeVar("F", bound=Entry)


class Lost(Busy):
    """The entry was changed by another process since it was read."""


@dataclass(frozen=True)
class Reserved:
    """What K says: the uuid of a name, and the pool of its image when that is another one."""

    uuid: str
    pool_id: int | None = None

    @classmethod
    def parse(cls, value: str) -> "Reserved":
        pool, _, uuid = value.rpartition("/")
        return cls(uuid, int(pool, 16) if pool else None)

    def __str__(self) -> str:
        """As K holds it."""
        return self.uuid if self.pool_id is None else f"{self.pool_id:016x}/{self.uuid}"


class JournalReading(Generic[E]):
    """The entries of one kind, in one pool and namespace, as they are found and read."""

    def __init__(self, pool: Pool, instance: str, kind: Kind, parse: Callable[[str, Mapping[str, str]], E]) -> None:
        self._instance = instance
        self._kind = kind
        self._parse = parse
        self._objects = pool.objects
        self._directory = kind.directory(instance)

    @property
    def noun(self) -> str:
        """What its entries are of."""
        return self._kind.noun

    def find(self, request_name: str) -> Reserved | None:
        value = self._objects.read_key(self._directory, self._kind.name_key(request_name))
        return Reserved.parse(value) if value else None

    def find_beside(self, request_name: str, other: "JournalReading[F]", uuid: str) -> tuple[Reserved | None, F | None]:
        """K, and an entry of another kind in the same pool, read side by side."""
        key, entry = self._kind.name_key(request_name), other._kind.object(uuid)
        value, keys = self._objects.read_both(self._directory, key, entry)
        return Reserved.parse(value) if value else None, None if keys is None else other._parse(uuid, keys)

    def load(self, uuid: str) -> E | None:
        keys = self._objects.read(self._kind.object(uuid))
        return None if keys is None else self._parse(uuid, keys)

    def load_noted(self, uuid: str) -> E | None:
        """The entry as it stands beside its name, where its object is not written yet."""
        note = self._objects.read_key(self._directory, layout.begun_key(uuid))
        return replace(self._parse(uuid, json.loads(note)), is_noted=True) if note else None

    def list_noted(self, after: str, limit: int = 500) -> list[str]:
        """Uuids of entries that were begun beside their names, with or without an object since; as `list_deleted`."""
        return self._list_uuids(layout.BEGUN_PREFIX, after, limit)

    def list_deleted(self, after: str, limit: int = 500) -> list[str]:
        """Uuids of entries that wait to be cleared away, in order, after one uuid; empty at the end."""
        return self._list_uuids(layout.DELETED_PREFIX, after, limit)

    def _list_uuids(self, prefix: str, after: str, limit: int) -> list[str]:
        page = self._objects.list_page(
            self._directory, prefix=prefix, after=prefix + after if after else "", limit=limit
        )
        return [key.removeprefix(prefix) for key, _ in page]

    def list_names(self, after: str, limit: int) -> list[tuple[str, Reserved | None]]:
        """A page of the directory's keys, of K and of D, with what each says; empty at the end, and only there.

        `after` is a key, whether it is still there or not. None stands for a key that names nothing.
        """
        page = self._objects.list_page(self._directory, prefix="", after=after, limit=limit)
        return [(key, self._named_by(key, value)) for key, value in page]

    def _named_by(self, key: str, value: str) -> Reserved | None:
        if key.startswith(layout.DELETED_PREFIX):
            return Reserved(key.removeprefix(layout.DELETED_PREFIX))
        try:
            return Reserved.parse(value) if value and key.startswith(self._kind.object_prefix) else None
        except ValueError:
            return None

    def name_key(self, request_name: str) -> str:
        """K of a name."""
        return self._kind.name_key(request_name)

    def _change(self, entry: E, *, put: Mapping[str, str], also: Mapping[str, str] | None = None) -> None:
        """also: compared beside the state."""
        compare = {layout.STATE: entry.state, **(also or {})}
        try:
            self._objects.apply(self._kind.object(entry.uuid), Write(compare=compare, put=put))
        except (CompareFailed, ObjectMissing) as error:
            raise Lost(
                f"{self._kind.noun} {entry.uuid} was changed by another process just now; repeat the call"
            ) from error
