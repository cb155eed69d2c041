"""The end of entries: from the mark that no create takes back to nothing, and the way back from there."""

import time
from collections.abc import Mapping
from dataclasses import replace

from csi_driver.ceph.api import CompareFailed, Create, ObjectMissing, Write
from csi_driver.journal import layout
from csi_driver.journal.layout import State
from csi_driver.journal.reading import E, JournalReading, Lost, Reserved
from csi_driver.tracing import step


class JournalEnding(JournalReading[E]):
    """The writes of deletes, undos, purges and undeletes."""

    def mark_deleting(self, entry: E, *, image_id: str = "", unmade: bool = False, maker: str = "") -> E:
        """The mark that no create takes back; the entry afterwards. `maker`: who deletes, of what goes through the trash."""
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

    def give_up(self, entry: E) -> None:
        """Leave the state in which this process works to whoever comes next, who need not fence anybody for it."""
        with step("journal.give_up", entry.uuid):
            self._change(entry, put={layout.MAKER: ""}, also={layout.MAKER: entry.maker})

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
