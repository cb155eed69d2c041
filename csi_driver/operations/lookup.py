"""From a handle to the volume: for ValidateVolumeCapabilities and for the node half."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from csi_driver.addresses import Credentials, StaticImage
from csi_driver.ceph.api import ImageInfo, ImageMissing, MetadataWrite
from csi_driver.errors import Busy, DriverError, Inconsistent, InUse, InvalidRequest, NotFound, PoolMissing
from csi_driver.journal.entries import VolumeEntry
from csi_driver.model import ImageTraits, StagedVolume
from csi_driver.operations import encryption
from csi_driver.operations.site import PoolKey, Site, Sites, load_usable, parse_handle, unopened
from csi_driver.operations.stage_parts import FoundEncryption
from csi_driver.operations.volume_keys import KeptKey, kept_in
from csi_driver.tracing import step

log = structlog.get_logger(__name__)

REPLAY_S = 60
"""How long after its death a node that replays a journal keeps others from it."""

_PASSING_S = 3.0
"""How long another node may take from attaching for reading to the refusal of the kernel."""
_CLOSED_S = 10.0
"""How long a stage waits for the clients of other nodes to be gone."""
_POLL_S = 0.1


class VolumeLookup:
    """Finds volumes."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    def find(self, volume_id: str, credentials: Credentials | None) -> StagedVolume:
        """The way to a volume's image, and its recorded size. Raises NotFound."""
        handle = parse_handle(volume_id)
        with self._sites.open_of(handle, credentials) as site:
            entry = load_usable(site, handle)
            size_bytes = entry.size_bytes or _inspect(site, entry).size_bytes
            return StagedVolume(volume_id, site.cluster.image_address(site.pool, entry.image_name), size_bytes)

    def locate(self, volume_id: str, credentials: Credentials | None) -> StagedVolume:
        """Likewise, with what the image is like now. Raises NotFound, Inconsistent."""
        handle = parse_handle(volume_id)
        with self._sites.open_of(handle, credentials) as site:
            entry = load_usable(site, handle)
            info = _inspect(site, entry)
            address = site.cluster.image_address(site.pool, entry.image_name)
            size_bytes = entry.size_bytes or info.size_bytes
            traits = ImageTraits(info.features, entry.mutable.device_limits(size_bytes))
            return StagedVolume(volume_id, address, size_bytes, traits, is_open=bool(info.watchers))

    def locate_static(self, image: StaticImage, credentials: Credentials | None) -> StagedVolume:
        """As `locate`, for an image that no journal knows."""
        try:
            with self._sites.open(PoolKey(image.cluster_id, credentials, image.pool)) as site:
                info = site.pool.images.inspect(image.name)
                address = site.cluster.image_address(site.pool, image.name)
                traits = ImageTraits(info.features)
                return StagedVolume(image.name, address, info.size_bytes, traits, is_open=bool(info.watchers))
        except (ImageMissing, PoolMissing, InvalidRequest) as missing:
            raise NotFound(f"there is no volume {image.name!r}: {missing}") from missing

    def await_closed(self, volume_id: str, static: StaticImage | None, credentials: Credentials | None) -> None:
        """The client of a node that died has the image open until its watch times out, half a minute later.

        Raises Busy for own work on it, InUse when a client has it open for long, NotFound.
        """
        with self._at_image(volume_id, static, credentials) as (site, name):
            if image_id := site.pool.images.find_id(name):
                why = f"volume {volume_id} is for a single node"
                _await_nobody(site, image_id, name, why, within_s=_CLOSED_S)

    @contextmanager
    def _at_image(
        self, volume_id: str, static: StaticImage | None, credentials: Credentials | None
    ) -> Iterator[tuple[Site, str]]:
        """Where it is, and its name."""
        if static:
            with self._sites.open(PoolKey(static.cluster_id, credentials, static.pool)) as site:
                yield site, static.name
            return
        handle = parse_handle(volume_id)
        with self._sites.open_of(handle, credentials) as site:
            yield site, load_usable(site, handle).image_name

    def encryption(
        self, volume_id: str, static: StaticImage | None, credentials: Credentials | None
    ) -> FoundEncryption:
        """By the marks that the create gave the image, or another driver's. What no journal knows may always hold data."""
        if static:
            with self._at_image(volume_id, static, credentials) as (site, name):
                try:
                    kept = kept_in(site.pool.images.get_metadata(name))
                except ImageMissing as missing:
                    raise NotFound(f"there is no volume {name!r}: {missing}") from missing
                return FoundEncryption(KeptKey(volume_id, "", kept), is_unused=False)
        handle = parse_handle(volume_id)
        with self._sites.open_of(handle, credentials) as site:
            entry = load_usable(site, handle)
            try:
                metadata = site.pool.images.get_metadata(entry.image_name)
            except ImageMissing:
                raise unopened(site, entry) from None
            key = KeptKey(volume_id, entry.kms_id, kept_in(metadata), entry.owner)
            return FoundEncryption(key, is_unused=encryption.state_of(metadata) == encryption.PREPARED)

    def note_use(self, volume_id: str, credentials: Credentials | None) -> None:
        """Keeps the mark of the image's settings as it is."""
        handle = parse_handle(volume_id)
        with self._sites.open_of(handle, credentials) as site:
            entry = load_usable(site, handle)
            info = _inspect(site, entry)
            mark = site.pool.images.read_mark(info.image_id)
            write = MetadataWrite({encryption.METADATA_KEY: encryption.ENCRYPTED}, mark=mark, over=mark)
            with step("lookup.note_use", volume_id):
                site.pool.images.write_metadata(info.image_id, write)

    @contextmanager
    def only_writer(self, volume_id: str, credentials: Credentials | None) -> Iterator[None]:
        """The lease is on the image's header, which lives as long as the image; librbd's own lock there is another.

        Raises Busy while another node has it; InUse when a client has the image open for writing; NotFound.
        """
        handle = parse_handle(volume_id)
        with self._sites.open_of(handle, credentials) as site:
            entry = load_usable(site, handle)
            image_id = entry.image_id or site.pool.images.find_id(entry.image_name)
            if not image_id:
                raise Inconsistent(f"volume {volume_id} is in the journal, but its image {entry.image_name} is missing")
            header = f"rbd_header.{image_id}"
            if not site.pool.leases.take_lease(header, REPLAY_S):
                raise Busy(f"another node replays the journal of volume {volume_id}; repeat the call")
            try:
                # A node that attached it for reading, and is about to be refused by the kernel, looks like a writer.
                why = f"the journal of volume {volume_id} must be replayed before it is mounted for reading"
                _await_nobody(site, image_id, entry.image_name, why, within_s=_PASSING_S)
                yield
            finally:
                try:
                    site.pool.leases.end_lease(header)
                except DriverError as error:
                    log.warning("the lease of a replay ends by itself", volume=volume_id, reason=str(error))


def _inspect(site: Site, entry: VolumeEntry) -> ImageInfo:
    try:
        return site.pool.images.inspect(entry.image_name)
    except ImageMissing:
        raise unopened(site, entry) from None


def _await_nobody(site: Site, image_id: str, image_name: str, why: str, *, within_s: float) -> None:
    """Raises Busy, and InUse when somebody has it open for longer than that."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return _refuse_clients(site, image_id, image_name, why)
        except InUse:
            if time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)


def _refuse_clients(site: Site, image_id: str, image_name: str, why: str) -> None:
    watchers = site.pool.images.watchers(image_id)
    own = site.flatten_workers.addresses() | site.makers.addresses(site.pool)
    for watcher in watchers:
        if watcher.address in own:
            raise Busy(f"image {image_name} is being worked on by this driver at {watcher.address}; repeat the call")
        raise InUse(f"{why}, and a client has its image {image_name} open at {watcher}: unmap it there first")
