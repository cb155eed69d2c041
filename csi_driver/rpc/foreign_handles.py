"""Volume ids that are no handles of a journal: images taken as they are, and what is refused by its name.

A persistent volume that a person wrote for an image (`staticVolume: "true"`, as the widely deployed Ceph CSI driver has it)
carries the image's name as its id, and where the image is in its volume context.
"""

import re
from collections.abc import Mapping

from csi_driver.addresses import StaticImage
from csi_driver.errors import InvalidRequest
from csi_driver.ids import Handle
from csi_driver.rpc.fields import check_text, required

STATIC_KEY = "staticVolume"
EPHEMERAL_KEY = "csi.storage.k8s.io/ephemeral"
_MIGRATED = re.compile(r"mig_mons-[^_]*_image-.*")


def volume_id(value: str) -> str:
    """Raises InvalidRequest for the handle of a volume that was migrated from the in-tree plugin."""
    required("volume_id", value)
    if _MIGRATED.fullmatch(value):
        raise InvalidRequest(
            f"volume_id {value!r} is of a volume that was migrated from the in-tree plugin kubernetes.io/rbd; such volumes "
            f"are not supported: make a persistent volume of its image with {STATIC_KEY}"
        )
    return value


def static_image(identifier: str, context: Mapping[str, str]) -> StaticImage | None:
    """None for a volume of a journal. Raises InvalidRequest that names the key."""
    wish = context.get(STATIC_KEY, "")
    if wish not in ("", "true", "false"):
        raise InvalidRequest(f"volume_context {STATIC_KEY} is {wish!r}; allowed are true and false")
    if wish != "true":
        return None
    if Handle.parse(identifier):
        raise InvalidRequest(f"volume_id {identifier!r} is a handle; with {STATIC_KEY} it is the name of an image")
    if any(one in identifier for one in "/@"):
        raise InvalidRequest(f"volume_id {identifier!r} is not the name of an image: '/' and '@' are not allowed in it")
    place = {}
    for key in ("clusterID", "pool"):
        if not context.get(key):
            raise InvalidRequest(f"volume_context {key} is missing, which a volume with {STATIC_KEY} needs")
        place[key] = check_text(f"volume_context {key}", context[key])
    return StaticImage(place["clusterID"], place["pool"], identifier)


def refuse_ephemeral(context: Mapping[str, str]) -> None:
    """An inline volume of a pod: nobody would make and delete its image."""
    if context.get(EPHEMERAL_KEY, "") == "true":
        raise InvalidRequest(
            f"volume_context {EPHEMERAL_KEY} is 'true': inline ephemeral volumes are not supported; use a generic ephemeral "
            "volume (ephemeral.volumeClaimTemplate)"
        )
