"""The histories find a rule that is broken on purpose: what they would miss, they would not guard either."""

from collections.abc import Callable

import pytest

from csi_driver.journal.entries import VolumeEntry
from csi_driver.journal.makers import Makers
from csi_driver.operations import creation, deletion
from csi_driver.operations.site import Site
from csi_driver.operations.snapshots import _Creation as SnapshotCreation
from csi_driver.operations.tombstones import is_held_by_snaps
from tests.simulation.runs import Run

SEED = 20260101
WITHIN = 20_000

Break = Callable[[pytest.MonkeyPatch], None]


def look_for_no_snaps(patch: pytest.MonkeyPatch) -> None:
    """A delete does not look for snaps after its mark."""
    patch.setattr(deletion, "is_held_by_snaps", lambda _site, _entry: False)


def leave_the_unmade(patch: pytest.MonkeyPatch) -> None:
    """A create takes over what another began, and does not clear its image away."""
    patch.setattr(creation, "remove_unmade", lambda _site, _entry: None)


def fence_nobody(patch: pytest.MonkeyPatch) -> None:
    """A maker that may still be at work is not cut off."""
    patch.setattr(Makers, "fence", lambda *_arguments, **_named: None)


def look_at_no_mark(patch: pytest.MonkeyPatch) -> None:
    """A snapshot does not look after its cut whether the volume was deleted meanwhile."""
    patch.setattr(SnapshotCreation, "_living_source", lambda _creation, _entry: None)


def forget_no_key(patch: pytest.MonkeyPatch) -> None:
    """What a server keeps stays there when the volume is gone."""
    patch.setattr(Site, "forget_key", lambda _site, _entry: None)


def forget_before_the_snapshots_are_gone(patch: pytest.MonkeyPatch) -> None:
    """A delete forgets the key, and a snapshot may still be restored."""

    def forget_and_look(site: Site, entry: VolumeEntry) -> bool:
        site.forget_key(entry)
        return is_held_by_snaps(site, entry)

    patch.setattr(deletion, "is_held_by_snaps", forget_and_look)


@pytest.mark.parametrize(
    "break_rule",
    [
        forget_no_key,
        forget_before_the_snapshots_are_gone,
        look_for_no_snaps,
        leave_the_unmade,
        fence_nobody,
        look_at_no_mark,
    ],
    ids=lambda rule: rule.__name__,
)
def test_a_broken_rule_is_found(break_rule: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    break_rule(monkeypatch)
    run = Run(SEED, shrinks=False)
    with pytest.raises(Exception, match=r".") as found:
        run.until(WITHIN)
    assert run.failed_after, f"it came from elsewhere: {found.value!r}"
    print(f"{break_rule.__name__}: found after {run.failed_after} steps: {found.value}")  # noqa: T201
