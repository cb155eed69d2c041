"""Which images are to be flattened, and who flattens: what stands of it in Ceph, in the image's pool.

Object `csi.flatten.<instance>`, key: the image's id, value JSON (`QueueEntry`). Written before a flatten and removed after,
since librbd takes the child off its parent's list and lets a trashed parent snap go before it removes the link in the
child: cut short there, the child cannot be opened, and only this entry says that all its data is in it.

Object `csi.flatten_worker.<instance>`: the lease that elects one process, the key `holder`, the addresses of the
connections that flatten and flattened (makers.Record), and `progress.<image id>` of what is flattened now. The addresses are
not the makers': fencing a maker must not cut a flatten. A process that takes the lease from one that did not give it back
fences that one's address first.
"""

import json
from dataclasses import asdict, dataclass

import structlog

from csi_driver.ceph.api import CompareFailed, Create, ObjectMissing, ParentSnap, Pool, Write
from csi_driver.errors import AccessDenied
from csi_driver.journal import layout
from csi_driver.journal.makers import Record
from csi_driver.tracing import step

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class QueueEntry:
    """An image that waits for its flatten, or is being flattened.

    uuid: of its volume. parent: the snap that it was cloned of. is_awaited: a create waits for it. queued_at: seconds
    since the epoch, by the clock of whoever queued it: only for the order.
    """

    image_id: str
    uuid: str
    image_name: str
    parent: ParentSnap
    is_awaited: bool
    queued_at: float

    @classmethod
    def parse(cls, image_id: str, text: str) -> "QueueEntry":
        value = json.loads(text)
        return cls(image_id, **{**value, "parent": ParentSnap(**value["parent"])})

    def __str__(self) -> str:
        value = asdict(self)
        del value["image_id"]
        return json.dumps(value)


class FlattenQueue:
    """The queue of one pool."""

    def __init__(self, pool: Pool, instance: str) -> None:
        self._objects = pool.objects
        self._ancestry = pool.ancestry
        self._object = layout.flatten_queue(instance)

    def add(self, entry: QueueEntry) -> None:
        """Fine when the image is there already."""
        key = entry.image_id
        with step("queue.add", key):
            try:
                self._objects.apply(self._object, Write(create=Create.ENSURE, compare={key: ""}, put={key: str(entry)}))
            except CompareFailed:
                return

    def remove(self, image_id: str) -> None:
        """Fine when it is not there."""
        with step("queue.remove", image_id):
            try:
                self._objects.apply(self._object, Write(drop=(image_id,)))
            except ObjectMissing:
                return

    def entries(self) -> list[QueueEntry]:
        """Those that a create waits for first, then by age."""
        found: list[QueueEntry] = []
        after = ""
        while page := self._objects.list_page(self._object, prefix="", after=after, limit=500):
            found += [QueueEntry.parse(image_id, text) for image_id, text in page]
            after = page[-1][0]
        return sorted(found, key=lambda one: (not one.is_awaited, one.queued_at))

    def names_image(self, image_id: str) -> bool:
        """As a child or as a parent in this pool."""
        return any(image_id in (one.image_id, one.parent.image_id) for one in self.entries())

    def holds_up(self, image_id: str) -> bool:
        """Whether a flatten that was cut short may keep the image from being opened: its own, or an ancestor's."""
        queued = {one.image_id for one in self.entries()}
        here: str | None = image_id
        while here is not None and here not in queued:
            parent = self._ancestry.find_parent(here)
            here = parent.image_id if parent else None
        return here is not None

    def names_snap(self, image_id: str, snap_id: int) -> bool:
        """As the parent of a child in this pool."""
        return any((one.parent.image_id, one.parent.snap_id) == (image_id, snap_id) for one in self.entries())


_HOLDER = "holder"
_PROGRESS = "progress."
_FORMER_KEPT = 16


def _parsed(text: str) -> Record:
    return Record.parse(text) if text else Record("")


def _followed(record: Record, address: str) -> Record:
    """Each address once, the newest last; an empty one stands for nobody."""
    known = [one for one in (*record.former, record.address) if one not in ("", address)]
    return Record(address, tuple(known[-_FORMER_KEPT:]))


class FlattenWorkers:
    """Who flattens in one pool. The caller of `enter` and `leave` has the lease, or had it until it stood still for long."""

    def __init__(self, pool: Pool, instance: str) -> None:
        self._pool = pool
        self.object = layout.flatten_worker(instance)

    def enter(self) -> bool:
        """Own address down, after the one before is fenced that did not leave; false when another process came between."""
        text = self._read()
        before, address = _parsed(text), self._pool.cluster.address
        if before.address not in ("", address):
            self._fence(before.address)
        return self._replace(text, _followed(before, address))

    def leave(self) -> None:
        """Fine when another process has followed."""
        text = self._read()
        before = _parsed(text)
        if before.address == self._pool.cluster.address:
            self._replace(text, _followed(before, ""))

    def is_any_alive(self) -> bool:
        return self._pool.leases.is_leased(self.object)

    def tell(self, image_id: str, part: float) -> None:
        """How far an image is, for the other processes; only while it is flattened."""
        self._pool.objects.apply(self.object, Write(create=Create.ENSURE, put={_PROGRESS + image_id: f"{part:.3f}"}))

    def progress(self, image_id: str) -> float | None:
        text = self._pool.objects.read_key(self.object, _PROGRESS + image_id)
        return float(text) if text else None

    def forget(self, image_id: str) -> None:
        """Its progress."""
        self._pool.objects.apply(self.object, Write(drop=(_PROGRESS + image_id,)))

    def addresses(self) -> frozenset[str]:
        """Of all connections that flatten or flattened here."""
        record = _parsed(self._read())
        return frozenset((record.address, *record.former)) - {""}

    def _fence(self, address: str) -> None:
        try:
            self._pool.cluster.blocklist(address)
        except AccessDenied as error:
            log.warning("the flatten worker before cannot be fenced", address=address, reason=str(error))

    def _read(self) -> str:
        return self._pool.objects.read_key(self.object, _HOLDER) or ""

    def _replace(self, before: str, record: Record) -> bool:
        """An address that was lost here would be taken for that of a client, by whoever finds an image open there."""
        write = Write(create=Create.ENSURE, compare={_HOLDER: before}, put={_HOLDER: str(record)})
        with step("queue.record_worker", self.object):
            try:
                self._pool.objects.apply(self.object, write)
            except CompareFailed:
                return False
        return True
