"""What `rbd-csi volume sparsify` does: gives back what of a volume's image holds nothing but zeros.

Nothing of it is journalled, and nothing excludes it: what is read of the image is the same before, meanwhile and after, so
that a command that was cut short is repeated, and one that meets a delete ends with it.
"""

from csi_driver.ceph.api import ImageMissing
from csi_driver.ids import Handle
from csi_driver.operations.site import Sites, load_usable, unopened


def sparsify(sites: Sites, handle: Handle) -> None:
    """With the cluster's own credentials. Raises NotFound, Inconsistent when the image cannot be opened, Unfinished."""
    with sites.open_of(handle, None) as site:
        entry = load_usable(site, handle)
        images = site.pool.images
        try:
            images.sparsify(entry.image_id or images.find_id(entry.image_name) or "")
        except ImageMissing:
            raise unopened(site, load_usable(site, handle)) from None
