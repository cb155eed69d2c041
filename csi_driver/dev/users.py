"""The users of a development cluster: their keys, and the least capabilities that their work needs.

The keys are made here and given to the monitor when its store is made, so that no user costs a call. They are of the
kind `aes`, which every release understands.
"""

import base64
import os
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

POOLS = ("rbd", "second")
DATA_POOL = "data"
NAMESPACE_POOL, NAMESPACE = "second", "ns"
CLIENTS = ("admin", "provisioner", "node", "ns")

_EVERY_POOL = ", ".join(f"profile rbd pool={pool}" for pool in (*POOLS, DATA_POOL))
_NAMESPACE_ONLY = ", ".join(f"profile rbd pool={pool} namespace={NAMESPACE}" for pool in (NAMESPACE_POOL, DATA_POOL))
_ALL = {"mon": "allow *", "osd": "allow *", "mds": "allow *", "mgr": "allow *"}

_CAPS: dict[str, Mapping[str, str]] = {
    "mon.": {"mon": "allow *"},
    "mgr.x": {"mon": "allow profile mgr", "osd": "allow *", "mds": "allow *"},
    "client.admin": _ALL,
    "client.provisioner": {"mon": "profile rbd", "osd": _EVERY_POOL, "mgr": "profile rbd"},
    "client.node": {"mon": "profile rbd", "osd": _EVERY_POOL},
    "client.ns": {
        "mon": "profile rbd",
        "osd": _NAMESPACE_ONLY,
        "mgr": f"profile rbd pool={NAMESPACE_POOL} namespace={NAMESPACE}",
    },
}
_OSD_CAPS = {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"}


@dataclass(frozen=True)
class User:
    """An entity of cephx."""

    name: str
    caps: Mapping[str, str]
    key: str = field(repr=False)

    @property
    def is_client(self) -> bool:
        return self.name.startswith("client.")


def new_users(osds: int) -> tuple[User, ...]:
    """Every user that a cluster with this many OSDs needs, each with a new key."""
    caps = {**_CAPS, **{f"osd.{i}": _OSD_CAPS for i in range(osds)}}
    return tuple(User(name, granted, _new_key()) for name, granted in caps.items())


def keyring(users: Iterable[User]) -> str:
    """The users in the format of a Ceph keyring file."""
    sections = []
    for user in users:
        caps = "".join(f'\tcaps {service} = "{granted}"\n' for service, granted in user.caps.items())
        sections.append(f"[{user.name}]\n\tkey = {user.key}\n{caps}")
    return "".join(sections)


def client_keys(keyring_text: str) -> dict[str, str]:
    """The keys of the client users in a keyring file, by name without `client.`."""
    keys, name = {}, ""
    for line in keyring_text.splitlines():
        text = line.strip()
        if text.startswith("["):
            name = text.strip("[]")
        elif text.startswith("key =") and name.startswith("client."):
            keys[name.removeprefix("client.")] = text.removeprefix("key =").strip()
    return keys


def _new_key() -> str:
    """A cephx secret: kind 1 (aes), the time it was made, its length and 16 random bytes."""
    secret = os.urandom(16)
    return base64.b64encode(struct.pack("<HIIH", 1, int(time.time()), 0, len(secret)) + secret).decode()
