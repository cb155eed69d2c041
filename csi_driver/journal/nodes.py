"""Which nodes there are, and which volumes each one has: what stands of it in Ceph.

Object `csi.nodes.<instance>`, in every pool that a node may write: key node id, value JSON {"limit", "topology"}. Each node
plugin writes its own; `rbd-csi node forget` removes it.

Object `csi.node.<instance>.<node id>`, in each volume's pool: key the volume's uuid, value `claimed <seconds> <token>` or
`held <token>`. It serves to count the volumes of a node; what is true of one volume stands in that volume's O alone.

Publish    claim `claimed`  →  all claims of the node counted  →  O's publications  →  claim `held`
Unpublish  O's publications  →  claim dropped, by compare with what it was when O was read again

So the claim is there before the publication is, and two that claim the last place at once see each other: neither may get it,
both never do. A crash leaves a claim too many, never one too few; such are looked for when a node seems to be full. The last
write changes the claim's value, so that an unpublish on its way does not drop the claim of the publish that came after it.
"""

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from csi_driver.ceph.api import CompareFailed, Create, ObjectMissing, Pool, Write
from csi_driver.journal import layout
from csi_driver.model import Segments
from csi_driver.tracing import step

CLAIM_GRACE_S = 300.0
"""After which a claim without a publication is taken for a crash's: longer than a call lives."""


@dataclass(frozen=True)
class NodeRecord:
    """A node as the controller needs to know it. max_volumes 0: no limit."""

    node_id: str
    max_volumes: int = 0
    topology: Segments = field(default_factory=dict)


class NodeRegister:
    """The nodes' own records in one pool."""

    def __init__(self, pool: Pool, instance: str) -> None:
        self._objects = pool.objects
        self._object = layout.nodes(instance)

    def find(self, node_id: str) -> NodeRecord | None:
        text = self._objects.read_key(self._object, node_id)
        if not text:
            return None
        value = json.loads(text)
        return NodeRecord(node_id, int(value["limit"]), value["topology"])

    def write(self, record: NodeRecord) -> None:
        """Unless it stands there already."""
        if self.find(record.node_id) == record:
            return
        value = json.dumps({"limit": record.max_volumes, "topology": dict(record.topology)}, sort_keys=True)
        with step("nodes.register", record.node_id):
            self._objects.apply(self._object, Write(create=Create.ENSURE, put={record.node_id: value}))

    def forget(self, node_id: str) -> bool:
        """Whether it was there."""
        if self.find(node_id) is None:
            return False
        with step("nodes.forget", node_id):
            self._objects.apply(self._object, Write(create=Create.ENSURE, drop=(node_id,)))
        return True


class NodeClaims:
    """The volumes of one node in one pool. A claim's value tells it from the next one for the same volume."""

    def __init__(self, pool: Pool, instance: str, node_id: str) -> None:
        self._objects = pool.objects
        self._object = layout.node_claims(instance, node_id)

    def all(self) -> Mapping[str, str]:
        """Values by uuid."""
        return self._objects.read(self._object) or {}

    def find(self, volume_uuid: str) -> str | None:
        return self._objects.read_key(self._object, volume_uuid)

    def claim(self, volume_uuid: str) -> str:
        """Its value."""
        value = f"claimed {time.time():.0f} {uuid.uuid4()}"
        with step("nodes.claim", volume_uuid):
            self._objects.apply(self._object, Write(create=Create.ENSURE, put={volume_uuid: value}))
        return value

    def hold(self, volume_uuid: str, value: str | None) -> bool:
        """The volume is published: the claim is no longer for the time being, and differs from the one before.

        `value`: what it must be still, or None for whatever is there. Whether it was.
        """
        compare = {} if value is None else {volume_uuid: value}
        with step("nodes.hold", volume_uuid):
            try:
                held = {volume_uuid: f"held {uuid.uuid4()}"}
                self._objects.apply(self._object, Write(create=Create.ENSURE, compare=compare, put=held))
            except CompareFailed:
                return False
            return True

    def drop(self, volume_uuid: str, value: str) -> None:
        """Unless it is another one by now."""
        with step("nodes.drop_claim", volume_uuid):
            try:
                self._objects.apply(self._object, Write(compare={volume_uuid: value}, drop=(volume_uuid,)))
            except (CompareFailed, ObjectMissing):
                return

    def forget(self) -> None:
        """All of them: when the node is forgotten."""
        with step("nodes.forget_claims", self._object):
            try:
                self._objects.apply(self._object, Write(remove_object=True))
            except ObjectMissing:
                return


def is_under_way(claim: str) -> bool:
    """Whether a claim without a publication may be that of a publish that has not come to its end."""
    kind, _, rest = claim.partition(" ")
    return kind == "claimed" and time.time() - float(rest.partition(" ")[0]) < CLAIM_GRACE_S
