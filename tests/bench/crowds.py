"""The same operations where much is there already: hundreds of snapshots, thousands of volumes, and a full trash beside them.

The volumes and the trash stay: they would take longer to go than all that is measured, and the cluster ends with the run.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from csi_driver.pb import csi_pb2 as pb
from tests.bench.bed import Bed
from tests.bench.stats import Series
from tests.bench.workloads import SingleClient, measure
from tests.rpc.valid_requests import GIB

CROWDS = (1_000, 10_000)
SNAPSHOTS = 400
TRASHED = 1_000
_CLIENTS = 32


def with_volumes_present(bed: Bed, rounds: int) -> Iterator[Series]:
    """All operations beside so many volumes, and all of them listed."""
    volumes: list[pb.Volume] = []
    for crowd in CROWDS:
        with ThreadPoolExecutor(_CLIENTS) as threads:
            names = [f"crowd-{n}" for n in range(len(volumes), crowd)]
            volumes += threads.map(lambda name: bed.calls.create_until_done(name, GIB), names)
        for series in SingleClient(bed, rounds, f"beside-{crowd}").run():
            series.name += f", {crowd} volumes present"
            yield series
        yield measure(f"list all of {crowd} by 500", lambda _, most=crowd: _list_all(bed, most), None, range(3))  # type: ignore[misc]


def _list_all(bed: Bed, least: int) -> None:
    token, seen = "", 0
    while True:
        request = pb.ListVolumesRequest(max_entries=500, starting_token=token)
        answer = bed.driver.rpc.controller.ListVolumes(request, timeout=120)
        seen, token = seen + len(answer.entries), answer.next_token
        if not token:
            break
    assert seen >= least


def with_snapshots_present(bed: Bed, rounds: int) -> Iterator[Series]:
    """Snapshots of a volume that has hundreds."""
    volume = bed.calls.create("snapped", GIB)
    bed.bare.create("bare-snapped")
    snapshots = []
    for number in range(SNAPSHOTS):
        snapshots.append(bed.calls.snapshot(f"snapped-{number}", volume.volume_id))
        bed.bare.snapshot("bare-snapped", f"present-{number}")
    more = min(rounds, 40)  # the driver allows 450 on one volume

    def snapshot(number: int) -> None:
        snapshots.append(bed.calls.snapshot(f"snapped-more-{number}", volume.volume_id))

    yield measure(
        f"snapshot, {SNAPSHOTS} present",
        snapshot,
        lambda n: bed.bare.snapshot("bare-snapped", f"snap-{n}"),
        range(more),
    )
    for one in snapshots:
        bed.calls.delete_snapshot_until_done(one.snapshot_id)
    bed.delete_all([volume])
    bed.settle()


def with_trash_present(bed: Bed, rounds: int) -> Iterator[Series]:
    """Deletes while a thousand images wait in the trash for their time, and the volumes are there."""
    kept = {"trashRetention": "365d"}
    with ThreadPoolExecutor(_CLIENTS) as threads:
        names = [f"kept-{n}" for n in range(TRASHED)]
        trashed = list(threads.map(lambda name: bed.calls.create_until_done(name, GIB, parameters=kept), names))
    bed.delete_all(trashed)
    volumes = {n: bed.calls.create(f"beside-trash-{n}", GIB, parameters=kept) for n in range(rounds)}
    for number in range(rounds):
        bed.bare.create(f"bare-beside-trash-{number}")
    yield measure(
        f"delete, {TRASHED} in the trash, {CROWDS[-1]} volumes present",
        lambda n: bed.calls.delete(volumes[n].volume_id),
        lambda n: bed.bare.delete(f"bare-beside-trash-{n}"),
        range(rounds),
    )
