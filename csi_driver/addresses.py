"""Where clusters and their images are, and as whom they are reached. As csi_driver/model.py: frozen, and no I/O."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Credentials:
    """A Ceph user without the `client.` prefix, and its cephx key. The key never appears in repr."""

    user: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class ReadAffinity:
    """Reads may come from the replica that is nearest to the node.

    labels: of the Kubernetes node, whose values say where in the CRUSH hierarchy it is, each for the bucket type that the
    label's name ends with; none: `--crush-location` says it.
    """

    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClusterEntry:
    """One cluster of the clusters file: how to reach it, and where in a pool the driver's objects live.

    read_affinity: None: all reads come from each object's primary OSD
    """

    cluster_id: str
    monitors: tuple[str, ...]
    rados_namespace: str = ""
    credentials: Credentials | None = None
    read_affinity: ReadAffinity | None = None


@dataclass(frozen=True)
class ImageAddress:
    """All that an attacher needs to open an image as a client of its own."""

    monitors: tuple[str, ...]
    credentials: Credentials
    pool: str
    rados_namespace: str
    image: str
    read_affinity: ReadAffinity | None = None

    @property
    def spec(self) -> str:
        """The image in the notation of the rbd tool: pool[/namespace]/image."""
        return "/".join(part for part in (self.pool, self.rados_namespace, self.image) if part)


@dataclass(frozen=True)
class StaticImage:
    """An image that is a volume without being in a journal: it is attached as it is, never formatted, grown or deleted."""

    cluster_id: str
    pool: str
    name: str
