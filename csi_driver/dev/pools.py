"""What is in a development cluster: the OSDs' places, the pools, one namespace. Commands only; cluster.py runs them."""

from collections.abc import Sequence

from csi_driver.dev.users import DATA_POOL, NAMESPACE, NAMESPACE_POOL, POOLS

PLACEMENT_GROUPS = 8
ERASURE_PROFILE = "dev-2-1"
MIN_OSDS_FOR_ERASURE = 3


def commands(osd_uuids: Sequence[str], *, clone_format_1: bool) -> list[str]:
    """The commands of `ceph` that a new monitor gets, before an OSD has started."""
    new_osds = [f"osd new {uuid} {i}" for i, uuid in enumerate(osd_uuids)]
    clients = [] if clone_format_1 else ["osd set-require-min-compat-client mimic --yes-i-really-mean-it"]
    # devicehealth would make a pool of its own, for disks that are not there; forced, as the mgr has not told its options
    settings = ["config set mgr mgr/devicehealth/enable_monitoring false --force"]
    pools = [f"osd pool create {pool} {PLACEMENT_GROUPS}" for pool in POOLS]
    return [*new_osds, *clients, *settings, *pools, *_data_pool(len(osd_uuids))]


def rbd_commands() -> list[tuple[str, ...]]:
    """The commands of `rbd` after that; the first waits until the pools work.

    The data pool, too: its first use marks it, and the user of the namespace may not.
    """
    inits: list[tuple[str, ...]] = [("pool", "init", pool) for pool in (*POOLS, DATA_POOL)]
    return [*inits, ("namespace", "create", f"{NAMESPACE_POOL}/{NAMESPACE}")]


def _data_pool(osds: int) -> list[str]:
    if osds < MIN_OSDS_FOR_ERASURE:
        made = [f"osd pool create {DATA_POOL} {PLACEMENT_GROUPS}"]
    else:
        made = [
            f"osd erasure-code-profile set {ERASURE_PROFILE} k=2 m=1 crush-failure-domain=osd",
            f"osd pool create {DATA_POOL} {PLACEMENT_GROUPS} {PLACEMENT_GROUPS} erasure {ERASURE_PROFILE}",
            f"osd pool set {DATA_POOL} allow_ec_overwrites true",
        ]
    return [*made, f"osd pool application enable {DATA_POOL} rbd"]
