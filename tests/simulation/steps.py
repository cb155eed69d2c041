"""The steps of a history, and how Hypothesis draws them: simple ones first, so that a failure shrinks to few."""

from dataclasses import dataclass

from hypothesis import strategies as st

from csi_driver.model import FlattenMode

VOLUMES = 6
SNAPSHOTS = 5
BLOCKS = 4


@dataclass(frozen=True)
class Create:
    """A volume by name; or again the request of that name. source: the index of a living volume or snapshot, if any."""

    name: int
    source: int | None = None
    extra_blocks: int = 0
    has_deep_flatten: bool = True
    mode: FlattenMode = FlattenMode.LAZY


@dataclass(frozen=True)
class Write:
    volume: int
    block: int
    value: int


@dataclass(frozen=True)
class Snapshot:
    name: int
    volume: int


@dataclass(frozen=True)
class Expand:
    volume: int


@dataclass(frozen=True)
class Delete:
    volume: int


@dataclass(frozen=True)
class DeleteSnapshot:
    snapshot: int


@dataclass(frozen=True)
class Attach:
    """A client opens a volume for writing, or closes it."""

    volume: int


@dataclass(frozen=True)
class Sweep:
    pass


@dataclass(frozen=True)
class Flatten:
    pass


@dataclass(frozen=True)
class Wait:
    """Longer than the grace time, a lease, or the watch of a client that died."""


@dataclass(frozen=True)
class Restart:
    """The process dies between two calls."""


Action = Create | Write | Snapshot | Expand | Delete | DeleteSnapshot | Attach | Sweep | Flatten | Wait | Restart


@dataclass(frozen=True)
class Crash:
    """The process dies at this point of the call: by number, or the first of that name."""

    point: int | str


@dataclass(frozen=True)
class Timeout:
    """The cluster does not answer at this point of the call."""

    point: int | str


@dataclass(frozen=True)
class Meanwhile:
    """At this point of the call the other process makes one of its own."""

    point: int | str
    action: Action


Fault = Crash | Timeout | Meanwhile


@dataclass(frozen=True)
class Step:
    """What one of the two processes does, and what happens to it there."""

    action: Action
    by: int = 0
    fault: Fault | None = None


def actions() -> st.SearchStrategy[Action]:
    index = st.integers(0, 7)
    create = st.builds(
        Create,
        st.integers(0, VOLUMES - 1),
        st.none() | index,
        st.sampled_from([0, 1]),
        st.booleans(),
        st.sampled_from(FlattenMode),
    )
    snapshot = st.builds(Snapshot, st.integers(0, SNAPSHOTS - 1), index)
    plain = st.sampled_from([Sweep(), Flatten(), Wait()])
    return st.one_of(
        create,
        create,
        snapshot,
        snapshot,
        st.builds(Delete, index),
        st.builds(DeleteSnapshot, index),
        st.builds(Write, index, st.integers(0, BLOCKS - 1), st.integers(1, 9)),
        plain,
        plain,
        st.builds(Expand, index) | st.builds(Attach, index) | st.just(Restart()),
    )


def steps() -> st.SearchStrategy[Step]:
    point = st.integers(1, 40)
    faults = st.builds(Crash, point) | st.builds(Meanwhile, point, actions()) | st.builds(Timeout, point)
    return st.builds(Step, actions(), st.integers(0, 1), st.none() | faults)


@st.composite
def histories(draw: st.DrawFn, length: int) -> list[Step]:
    """Places for so many steps, any of which may stay empty: Hypothesis's own lists would mostly be short."""
    places = st.none() | steps() | steps() | steps()
    return [step for _ in range(length) if (step := draw(places)) is not None]
