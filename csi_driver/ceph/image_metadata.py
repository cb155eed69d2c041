"""An image's metadata: keys of its header (Ceph: cls_rbd, metadata_set), and a mark beside them that librbd does not know."""

from csi_driver.ceph.api import MetadataWrite

PREFIX = "metadata_"
MARK = "csi.mark"


def header_keys(write: MetadataWrite) -> dict[str, str]:
    """What it puts."""
    keys = {PREFIX + name: text for name, text in write.put.items()}
    if write.mark:
        keys[MARK] = str(write.mark)
    return keys
