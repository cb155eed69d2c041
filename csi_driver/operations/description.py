"""How answers describe what stands in the journal: the same in a create, a listing and a look at one volume.

What the journal does not know is asked of the image, without opening it: ceph-csi's entries record no size.
"""

import re
from collections.abc import Mapping

from csi_driver.ceph.api import ImageMissing
from csi_driver.errors import NotFound
from csi_driver.ids import Handle
from csi_driver.journal.entries import SnapshotEntry, VolumeEntry
from csi_driver.journal.publications import parse_publications
from csi_driver.model import ListedVolume, Snapshot, SourceKind, Volume, VolumeSource
from csi_driver.operations.site import Site

_UUID_AT_END = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def volume_context(site: Site, entry: VolumeEntry, of_class: Mapping[str, str], journal_pool: str) -> dict[str, str]:
    """`of_class`: what the node needs of the class. The other keys are those that the Go driver writes."""
    context = {
        **of_class,
        "pool": site.pool.name,
        "journalPool": journal_pool,
        "imageName": entry.image_name,
    }
    if site.pool.namespace:
        context["radosNamespace"] = site.pool.namespace
    return context


def describe_volume(site: Site, entry: VolumeEntry) -> ListedVolume | None:
    """None for what was not, or is no longer, handed out."""
    if not entry.is_usable:
        return None
    size_bytes = entry.size_bytes or _image_size(site, entry)
    if not size_bytes:
        return None
    request = entry.request or {"context": {"clusterID": site.key.cluster_id}}
    source = request.get("source")
    volume = Volume(
        str(site.handle(entry.uuid)),
        size_bytes,
        volume_context(site, entry, request.get("context") or {}, _journal_pool(site, entry)),
        VolumeSource(SourceKind(source["kind"]), source["handle"]) if source else None,
        entry.topology,
    )
    return ListedVolume(volume, tuple(sorted(parse_publications(entry.publications))))


def describe_snapshot(site: Site, entry: SnapshotEntry) -> Snapshot | None:
    """None for what was not, or is no longer, handed out."""
    if not entry.is_usable:
        return None
    handle = str(site.handle(entry.uuid))
    if entry.is_native:
        return Snapshot(
            handle, entry.source_handle, entry.size_bytes, entry.created_at, entry.topology, entry.group_handle
        )
    source_uuid = _UUID_AT_END.search(entry.source_image)
    if source_uuid is None:
        return None
    try:
        snap = site.pool.images.get_snap(entry.image_name, entry.image_name)
    except ImageMissing:
        return None
    return Snapshot(handle, str(site.handle(source_uuid[0])), snap.size_bytes, snap.created_at)


def cluster_of(entry: VolumeEntry | SnapshotEntry) -> str:
    """The cluster entry under which it was made; empty where the journal does not say."""
    if isinstance(entry, SnapshotEntry):
        source = Handle.parse(entry.source_handle)
        return source.cluster_id if source else ""
    context = (entry.request or {}).get("context") or {}
    return str(context.get("clusterID", ""))


def _image_size(site: Site, entry: VolumeEntry) -> int | None:
    image_id = entry.image_id or site.pool.images.find_id(entry.image_name)
    return site.pool.images.find_size(image_id) if image_id else None


def _journal_pool(site: Site, entry: VolumeEntry) -> str:
    if entry.journal_pool_id in (None, site.pool.pool_id):
        return site.pool.name
    try:
        with site.beside(entry.journal_pool_id) as there:
            return there.pool.name
    except NotFound:
        return site.pool.name
