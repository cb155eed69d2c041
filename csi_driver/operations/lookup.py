"""From a handle to the volume: for ValidateVolumeCapabilities and for the node half."""

from csi_driver.ceph.api import ImageMissing
from csi_driver.errors import Inconsistent
from csi_driver.model import Credentials, StagedVolume
from csi_driver.operations.site import Sites, load_usable, parse_handle


class VolumeLookup:
    """Finds volumes."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    def locate(self, volume_id: str, credentials: Credentials | None) -> StagedVolume:
        """The way to a volume's image, and its recorded size. Raises NotFound."""
        handle = parse_handle(volume_id)
        with self._sites.open_of(handle, credentials) as site:
            entry = load_usable(site, handle)
            size_bytes = entry.size_bytes
            if not size_bytes:
                try:
                    size_bytes = site.pool.images.inspect(entry.image_name).size_bytes
                except ImageMissing:
                    raise Inconsistent(
                        f"volume {volume_id} is in the journal, but its image {entry.image_name} cannot be opened"
                    ) from None
            return StagedVolume(volume_id, site.cluster.image_address(site.pool, entry.image_name), size_bytes)
