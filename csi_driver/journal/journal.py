"""The journal of one kind of entry in one pool: reading it, and the writes that move an entry from state to state.

Every method is one write (or one read) and names its step `journal.…`, at which tests stop the process. What the writes
mean together stands in the package's docstring. A write that lost against another process raises `Lost`: read again.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from csi_driver.ceph.api import CompareFailed, Create, ObjectExists, ObjectMissing, Pool, Write
from csi_driver.errors import Busy
from csi_driver.journal import layout
from csi_driver.journal.entries import Entry, SnapshotEntry, VolumeEntry
from csi_driver.journal.layout import SNAPSHOTS, VOLUMES, Kind, State
from csi_driver.mutable import MutableParameters
from csi_driver.tracing import step

E = TypeVar("E", bound=Entry)


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


def volume_journal(pool: Pool, instance: str) -> "Journal[VolumeEntry]":
    return Journal(pool, instance, VOLUMES, VolumeEntry.parse)


def snapshot_journal(pool: Pool, instance: str) -> "Journal[SnapshotEntry]":
    return Journal(pool, instance, SNAPSHOTS, SnapshotEntry.parse)


class Journal(Generic[E]):
    """The entries of one kind, in one pool and namespace."""

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

    def in_pool(self, pool: Pool) -> "Journal[E]":
        """The same driver instance's journal in another pool."""
        return Journal(pool, self._instance, self._kind, self._parse)

    # ── reading ──

    def find(self, request_name: str) -> Reserved | None:
        value = self._objects.read_key(self._directory, self._kind.name_key(request_name))
        return Reserved.parse(value) if value else None

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

    # ── making ──

    def claim(self, request_name: str, wanted: Reserved) -> Reserved:
        """Give the name this uuid unless it has one; the one it has then."""
        key = self._kind.name_key(request_name)
        with step("journal.claim", request_name):
            try:
                self._objects.apply(
                    self._directory, Write(create=Create.ENSURE, compare={key: ""}, put={key: str(wanted)})
                )
            except CompareFailed:
                return self._winner(request_name)
            return wanted

    def claim_noted(self, entry: E, stale: Sequence[str]) -> Reserved:
        """As `claim`, with the entry beside the name in the same write. stale: entries whose notes go with it."""
        key, note = self._kind.name_key(entry.request_name), layout.begun_key(entry.uuid)
        with step("journal.claim", entry.request_name):
            try:
                self._objects.apply(
                    self._directory,
                    Write(
                        create=Create.ENSURE,
                        compare={key: ""},
                        put={key: entry.uuid, note: json.dumps(self._first_keys(entry))},
                        drop=tuple(layout.begun_key(uuid) for uuid in stale),
                    ),
                )
            except CompareFailed:
                return self._winner(entry.request_name)
            return Reserved(entry.uuid)

    def _winner(self, request_name: str) -> Reserved:
        winner = self.find(request_name)
        if winner is None:
            raise Lost(f"{self._kind.noun} name {request_name!r} is being deleted by another process")
        return winner

    def drop_notes(self, uuids: Sequence[str]) -> None:
        """Of entries that have objects, or no name any more."""
        with step("journal.drop_notes", f"{len(uuids)}"):
            notes = tuple(layout.begun_key(uuid) for uuid in uuids)
            self._objects.apply(self._directory, Write(create=Create.ENSURE, drop=notes))

    def begin(self, entry: E) -> None:
        """Write O exclusively. Raises Lost when it is there."""
        with step("journal.begin", entry.uuid):
            self._write_first(entry, self._first_keys(entry))

    def _write_first(self, entry: E, keys: Mapping[str, str]) -> None:
        try:
            self._objects.apply(self._kind.object(entry.uuid), Write(create=Create.EXCLUSIVE, put=keys))
        except ObjectExists:
            raise Lost(f"{self._kind.noun} name {entry.request_name!r} is being made by another process") from None

    def _first_keys(self, entry: E) -> dict[str, str]:
        keys = {
            layout.STATE: State.MAKING,
            layout.MAKER: entry.maker,
            layout.MADE_AT: f"{time.time():.0f}",
            layout.LAYOUT: layout.LAYOUT_VERSION,
            self._kind.request_name: entry.request_name,
            layout.SIZE: str(entry.size_bytes),
            **entry.own_keys(),
        }
        if entry.depth is not None:
            keys[layout.DEPTH] = str(entry.depth)
        return keys

    def begin_complete(self, entry: E, put: Mapping[str, str]) -> None:
        """Write O exclusively, of what is made already. Fine when that was done; Lost when it is being deleted since."""
        keys = self._first_keys(entry) | {layout.STATE: State.COMPLETE, **put}
        with step("journal.begin_complete", entry.uuid):
            try:
                self._objects.apply(self._kind.object(entry.uuid), Write(create=Create.EXCLUSIVE, put=keys))
            except ObjectExists:
                present = self.load(entry.uuid)
                if present is None or present.state is not State.COMPLETE:
                    raise Lost(f"{self._kind.noun} {entry.uuid} is being deleted by another process") from None

    def restore(self, uuid: str, keys: Mapping[str, str]) -> None:
        """Write O exclusively, of what was lost. Raises Lost when it is there."""
        with step("journal.restore", uuid):
            try:
                self._objects.apply(self._kind.object(uuid), Write(create=Create.EXCLUSIVE, put=keys))
            except ObjectExists:
                raise Lost(f"{self._kind.noun} {uuid} has an entry by now") from None

    def take_over(self, entry: E, maker: str) -> E:
        """From a maker that was fenced; the entry afterwards. Also adopts an entry that ceph-csi never finished."""
        now = round(time.time())
        taken = replace(entry, state=State.MAKING, maker=maker, made_at=now, is_noted=False)
        with step("journal.take_over", entry.uuid):
            if entry.is_noted:
                self._write_first(taken, self._first_keys(taken))
            else:
                self._change(
                    entry,
                    put={layout.STATE: State.MAKING, layout.MAKER: maker, layout.MADE_AT: str(now)},
                    also={layout.MAKER: entry.maker},
                )
        return taken

    def complete(self, entry: E, put: Mapping[str, str]) -> None:
        """`put`: what is known only now that it is made."""
        put = {layout.STATE: State.COMPLETE, **put}
        with step("journal.complete", entry.uuid):
            if entry.is_noted:
                self._write_first(entry, self._first_keys(entry) | put)
            else:
                self._change(entry, put=put, also={layout.MAKER: entry.maker})

    def await_flatten(self, entry: E, put: Mapping[str, str]) -> E:
        """`put`: as with `complete`; the entry afterwards. The image is whole, so that no one takes it over any more."""
        with step("journal.await_flatten", entry.uuid):
            self._change(entry, put={layout.STATE: State.FLATTENING, **put}, also={layout.MAKER: entry.maker})
        return self._parse(entry.uuid, self._objects.read(self._kind.object(entry.uuid)) or {})

    def record_depth(self, entry: E, depth: int) -> None:
        """By a flatten or a count. What waited for the first is complete with it."""
        put = {layout.DEPTH: str(depth)}
        if entry.state is State.FLATTENING:
            put[layout.STATE] = State.COMPLETE
        before = "" if entry.depth is None else str(entry.depth)
        with step("journal.record_depth", entry.uuid):
            self._change(entry, put=put, also={layout.DEPTH: before})

    def claim_resize(self, entry: E, resizer: str) -> E:
        """For one process at a time; the entry afterwards. Raises Lost when it was claimed, or a size recorded, since."""
        resizing = f"{resizer} {time.time():.0f}"
        with step("journal.claim_resize", entry.uuid):
            known = {layout.RESIZER: entry.resizer, **_size_key(entry)}
            self._change(entry, put={layout.RESIZER: resizing}, also=known)
        return replace(entry, resizer=resizing)

    def record_size(self, entry: E, size_bytes: int) -> E:
        """And end the claim; the entry afterwards. Raises Lost when another process has recorded one, or has claimed it."""
        mutable = entry.mutable.renumbered() if entry.mutable.follows_size else entry.mutable
        with step("journal.record_size", entry.uuid):
            after = replace(entry, size_bytes=size_bytes, mutable=mutable, resizer="")
            return self._record_limited(after, before=entry)

    def record_mutable(self, entry: E, mutable: MutableParameters) -> E:
        """The entry afterwards. Raises Lost when they or the size, from which limits follow, were changed meanwhile."""
        with step("journal.record_mutable", entry.uuid):
            return self._record_limited(replace(entry, mutable=mutable), before=entry)

    def _record_limited(self, entry: E, *, before: E) -> E:
        """Size and mutable parameters, of which the image's settings are made."""
        put = {layout.SIZE: str(entry.size_bytes)} if entry.size_bytes else {}
        if entry.mutable.version:
            put[layout.MUTABLE] = str(entry.mutable)
        if entry.resizer != before.resizer:
            put[layout.RESIZER] = entry.resizer
        known = {layout.MUTABLE: str(before.mutable), layout.RESIZER: before.resizer, **_size_key(before)}
        self._change(entry, put=put, also=known)
        return entry

    def record_publications(self, entry: E, publications: str) -> E:
        """Over those that the entry was read with; the entry afterwards. Raises Lost when anybody changed them since."""
        with step("journal.record_publications", entry.uuid):
            self._change(entry, put={layout.PUBLICATIONS: publications}, also={layout.PUBLICATIONS: entry.publications})
        return replace(entry, publications=publications)

    # ── ending ──

    def mark_deleting(self, entry: E, *, image_id: str = "", unmade: bool = False, maker: str = "") -> E:
        """The mark that no create takes back; the entry afterwards. `maker`: who deletes, where that matters."""
        now = round(time.time())
        put: dict[str, str] = {layout.STATE: State.DELETING}
        if maker:
            put |= {layout.MAKER: maker, layout.MADE_AT: str(now)}
        if image_id:
            put[layout.IMAGE_ID] = image_id
        if unmade:
            put[layout.UNMADE] = "1"
        with step("journal.mark_deleting", entry.uuid):
            known = {layout.PUBLICATIONS: entry.publications, layout.MAKER: entry.maker, layout.RESIZER: entry.resizer}
            self._change(entry, put=put, also=known)
        marked = replace(entry, state=State.DELETING, image_id=image_id or entry.image_id, is_unmade=unmade)
        return replace(marked, maker=maker, made_at=now) if maker else marked

    def release_name(self, entry: E) -> None:
        """Drop K if it still is this volume's, and what stands beside it, and put D, in one write."""
        key, note = self._kind.name_key(entry.request_name), {layout.deleted_key(entry.uuid): entry.image_id}
        dropped = (key, layout.begun_key(entry.uuid))
        with step("journal.release_name", entry.uuid):
            try:
                self._objects.apply(
                    self._directory,
                    Write(create=Create.ENSURE, compare={key: entry.uuid}, drop=dropped, put=note),
                )
            except CompareFailed:
                self._objects.apply(self._directory, Write(create=Create.ENSURE, put=note))

    def note_deleted(self, entry: E) -> None:
        """Put D alone: for an entry that no name leads to."""
        with step("journal.note_deleted", entry.uuid):
            note = {layout.deleted_key(entry.uuid): entry.image_id}
            self._objects.apply(self._directory, Write(create=Create.ENSURE, put=note))

    def release_foreign_name(self, entry: E, image_pool_id: int) -> None:
        """Where K is not in the image's pool: call it on the journal of K's pool, when D is put."""
        with step("journal.release_foreign_name", entry.uuid):
            self._drop_key(entry.request_name, Reserved(entry.uuid, image_pool_id))

    def move(self, entry: E, state: State, put: Mapping[str, str] | None = None) -> None:
        """From the entry's state to the next one of its end."""
        with step(f"journal.mark_{state}", entry.uuid):
            self._change(entry, put={layout.STATE: state, **(put or {})})

    def take_on(self, entry: E, state: State, maker: str) -> E:
        """To a state in which one process works, from the one before or from another's claim; the entry afterwards."""
        now = round(time.time())
        with step(f"journal.mark_{state}", entry.uuid):
            self._change(
                entry,
                put={layout.STATE: state, layout.MAKER: maker, layout.MADE_AT: str(now)},
                also={layout.MAKER: entry.maker},
            )
        return replace(entry, state=state, maker=maker, made_at=now)

    def return_name(self, entry: E) -> bool:
        """Put K and drop D, in one write, unless another has the name: then D stays, so that O is found. Whether K is it."""
        key = self._kind.name_key(entry.request_name)
        with step("journal.return_name", entry.uuid):
            try:
                self._objects.apply(
                    self._directory,
                    Write(
                        create=Create.ENSURE,
                        compare={key: ""},
                        put={key: entry.uuid},
                        drop=(layout.deleted_key(entry.uuid),),
                    ),
                )
            except CompareFailed:
                return self.find(entry.request_name) == Reserved(entry.uuid)
            return True

    def forget(self, uuid: str, expected: State) -> None:
        """Remove O, then D. Fine when another process has done so."""
        with step("journal.forget", uuid):
            try:
                self._objects.apply(
                    self._kind.object(uuid), Write(compare={layout.STATE: expected}, remove_object=True)
                )
            except ObjectMissing:
                pass
            except CompareFailed as error:
                raise Lost(f"the journal's entry of {self._kind.noun} {uuid} was changed by another process") from error
        self.forget_deleted(uuid)

    def forget_deleted(self, uuid: str) -> None:
        with step("journal.forget_deleted", uuid):
            self._objects.apply(self._directory, Write(create=Create.ENSURE, drop=(layout.deleted_key(uuid),)))

    def return_foreign_name(self, entry: E, image_pool_id: int) -> bool:
        """Where K is not in the image's pool: call it on the journal of K's pool, before D is dropped. Whether K is it."""
        wanted = Reserved(entry.uuid, image_pool_id)
        with step("journal.return_foreign_name", entry.uuid):
            return self.claim(entry.request_name, wanted) == wanted

    def drop_name(self, request_name: str, reserved: Reserved) -> None:
        """Drop K that points to an entry already released (after a write that came late), or that never came to be."""
        with step("journal.drop_name", request_name):
            self._drop_key(request_name, reserved)

    def _drop_key(self, request_name: str, expected: Reserved) -> None:
        key = self._kind.name_key(request_name)
        try:
            dropped = (key, layout.begun_key(expected.uuid))
            self._objects.apply(self._directory, Write(compare={key: str(expected)}, drop=dropped))
        except (CompareFailed, ObjectMissing):
            return

    def _change(
        self, entry: E, *, put: Mapping[str, str], state: State | None = None, also: Mapping[str, str] | None = None
    ) -> None:
        compare = {layout.STATE: entry.state if state is None else state, **(also or {})}
        try:
            self._objects.apply(self._kind.object(entry.uuid), Write(compare=compare, put=put))
        except (CompareFailed, ObjectMissing) as error:
            raise Lost(
                f"{self._kind.noun} {entry.uuid} was changed by another process just now; repeat the call"
            ) from error


def _size_key(entry: Entry) -> dict[str, str]:
    """As it stands in O."""
    return {layout.SIZE: str(entry.size_bytes) if entry.size_bytes else ""}
