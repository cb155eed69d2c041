"""A cluster's directory: which file is where, and what is recorded of the cluster.

Persisted in DIR: `dev.lock` is written first and tells that the directory is ours; `cluster.json`, the record, is
written last and tells that the cluster is whole. A directory with the first and without the second is half-made, and
`up` makes it anew.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from csi_driver.dev.errors import DevError
from csi_driver.host.commands import run

LOCK = "dev.lock"
RECORD = "cluster.json"
GIB = 1 << 30


def project() -> Path:
    """The checkout that this package is run from; installed elsewhere, the current directory."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


@dataclass(frozen=True)
class DevOptions:
    """What the caller asks for. None: as the cluster that is there has it, or the default for a new one."""

    directory: Path
    osds: int | None = None
    osd_size_bytes: int | None = None
    release: str | None = None
    """A Debian suite whose Ceph runs instead of this machine's own."""
    clone_format_1: bool = False
    """Leave clone format 2 forbidden, as clusters that once served old clients do."""
    address: str | None = None
    """Of this machine, where its daemons listen; None: a loopback address of the cluster's own."""


@dataclass(frozen=True)
class Record:
    """What was decided when the cluster was made."""

    fsid: str
    address: str
    osds: int = 1
    osd_size_bytes: int = 20 * GIB
    release: str | None = None
    clone_format_1: bool = False

    @classmethod
    def read(cls, directory: Path) -> "Record | None":
        """The record of a whole cluster, or None when there is none yet."""
        try:
            return cls(**json.loads((directory / RECORD).read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as unreadable:
            raise DevError(f"{directory / RECORD} is not a cluster's record: {unreadable}") from unreadable

    def text(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


@dataclass(frozen=True)
class DevCeph:
    """A development cluster that runs: where its files are, and who may do what in it."""

    directory: Path
    address: str
    fsid: str
    osds: int
    release: str | None
    keys: Mapping[str, str] = field(repr=False)
    """The key of each user: admin (the operator's alone), provisioner, node, ns."""

    @property
    def conf(self) -> Path:
        return self.directory / "ceph.conf"

    @property
    def keyring(self) -> Path:
        """The clients' keys, client.admin's among them."""
        return self.directory / "keyring"

    @property
    def config_json(self) -> Path:
        """The clusters file: `dev`, and `dev-ns` for the namespace."""
        return self.directory / "config.json"

    @property
    def secrets_yaml(self) -> Path:
        return self.directory / "secrets.yaml"

    @property
    def class_yaml(self) -> Path:
        return self.directory / "class.yaml"

    @property
    def snapshotclass_yaml(self) -> Path:
        return self.directory / "snapshotclass.yaml"

    @property
    def mutable_yaml(self) -> Path:
        return self.directory / "mutable.yaml"

    def secrets(self, user: str) -> dict[str, str]:
        """The secrets of an RPC that acts as this user."""
        return {"userID": user, "userKey": self.keys[user]}

    def ceph(self, *args: str, timeout_s: float = 60) -> str:
        """What `ceph ARGS` prints, as client.admin."""
        return run(("ceph", "-c", str(self.conf), *args), timeout_s=timeout_s).stdout

    def rbd(self, *args: str, timeout_s: float = 60) -> str:
        """What `rbd ARGS` prints, as client.admin."""
        return run(("rbd", "-c", str(self.conf), *args), timeout_s=timeout_s).stdout
