"""The journal of one kind of entry in one pool: the writes that make entries and change them, beside reading and ending.

Every method is one write (or one read) and names its step `journal.…`, at which tests stop the process. What the writes
mean together stands in the package's docstring. A write that lost against another process raises `Lost`: read again.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from csi_driver.ceph.api import CompareFailed, Create, ObjectExists, Pool, Write
from csi_driver.journal import layout
from csi_driver.journal.ending import JournalEnding
from csi_driver.journal.entries import Entry, SnapshotEntry, VolumeEntry
from csi_driver.journal.layout import SNAPSHOTS, VOLUMES, State
from csi_driver.journal.reading import E, Lost, Reserved
from csi_driver.mutable import MutableParameters
from csi_driver.tracing import step


def volume_journal(pool: Pool, instance: str) -> "Journal[VolumeEntry]":
    return Journal(pool, instance, VOLUMES, VolumeEntry.parse)


def snapshot_journal(pool: Pool, instance: str) -> "Journal[SnapshotEntry]":
    return Journal(pool, instance, SNAPSHOTS, SnapshotEntry.parse)


class Journal(JournalEnding[E]):
    """The entries of one kind, in one pool and namespace."""

    def in_pool(self, pool: Pool) -> "Journal[E]":
        """The same driver instance's journal in another pool."""
        return Journal(pool, self._instance, self._kind, self._parse)

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

    def return_foreign_name(self, entry: E, image_pool_id: int) -> bool:
        """Where K is not in the image's pool: call it on the journal of K's pool, before D is dropped. Whether K is it."""
        wanted = Reserved(entry.uuid, image_pool_id)
        with step("journal.return_foreign_name", entry.uuid):
            return self.claim(entry.request_name, wanted) == wanted


def _size_key(entry: Entry) -> dict[str, str]:
    """As it stands in O."""
    return {layout.SIZE: str(entry.size_bytes) if entry.size_bytes else ""}
