"""Which row of the journal's crash table stands in a pool now, as the table writes it."""

from csi_driver.ceph.api import Pool
from csi_driver.journal import layout
from csi_driver.journal.layout import VOLUMES


def row_of(pool: Pool, name: str, uuid: str | None) -> str:
    """`K O I complete` and the like; `uuid` where it is known, since K may be gone."""
    reserved = pool.objects.read_key(VOLUMES.directory("default"), VOLUMES.name_key(name))
    uuid = reserved or uuid or _only_entry(pool)
    keys = pool.objects.read(VOLUMES.object(uuid)) if uuid else None
    listed = pool.objects.read_key(VOLUMES.directory("default"), layout.deleted_key(uuid)) if uuid else None
    image = _image(pool, uuid) if uuid else "–"
    noted = pool.objects.read_key(VOLUMES.directory("default"), layout.begun_key(uuid)) if uuid else None
    row = [
        "K" if reserved else "–",
        "O" if keys is not None else "–",
        image,
        (keys or {}).get(layout.STATE, ""),
        "unmade" if layout.UNMADE in (keys or {}) else "",
        "" if listed is None else "D",
        "M" if noted and keys is None else "",
    ]
    return " ".join(part for part in row if part)


def _image(pool: Pool, uuid: str) -> str:
    if pool.images.find_id(f"csi-vol-{uuid}"):
        return "I"
    return "T" if any(entry.name == f"csi-vol-{uuid}" for entry in pool.images.list_trash()) else "–"


def _only_entry(pool: Pool) -> str | None:
    page = pool.objects.list_page(VOLUMES.directory("default"), prefix=layout.DELETED_PREFIX, after="", limit=2)
    return page[0][0].removeprefix(layout.DELETED_PREFIX) if page else None
