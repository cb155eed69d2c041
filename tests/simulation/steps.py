"""The steps of a history, and how Hypothesis draws them: simple ones first, so that a failure shrinks to few."""

from dataclasses import dataclass

from hypothesis import strategies as st

from csi_driver.model import FlattenMode

VOLUMES = 8
SNAPSHOTS = 6
BLOCKS = 4


@dataclass(frozen=True)
class Create:
    """A volume by name; or again the request of that name. source: the index of a living volume or snapshot.

    Without one, or when there are none, it is an empty volume.
    """

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
    """At this point of the call the other process makes one of its own, or the same one (None).

    is_long: it has waited before, longer than the grace time.
    """

    point: int | str
    action: Action | None = None
    is_long: bool = False


Fault = Crash | Timeout | Meanwhile


@dataclass(frozen=True)
class Step:
    """What one of the two processes does, and what happens to it there."""

    action: Action
    by: int = 0
    fault: Fault | None = None


_KINDS: tuple[type[Action], ...] = (
    *(Create,) * 7,
    *(Snapshot,) * 4,
    *(Write,) * 3,
    *(Delete,) * 3,
    *(DeleteSnapshot,) * 2,
    *(Sweep,) * 3,
    *(Flatten,) * 3,
    *(Wait, Expand, Attach, Restart),
)
"""Each as often as it stands here. Those that make something come first, and are the simpler ones to Hypothesis."""

_POINTS: dict[type[Action], tuple[str, ...]] = {
    Create: (
        *("images.create:half_named", "images.create:named", "images.create:mapped"),
        *("images.clone:zeros", "images.clone:unlisted", "images.clone:made"),
        *("images.clone:before", "images.clone:after", "images.cut:half", "images.cut:after", "images.grow:after"),
        *("images.remove_snap:trashed", "images.remove:both", "images.remove:unnamed", "images.remove:delisted"),
        *("images.create:before", "images.create:after", "images.remove_snap:before", "cluster.blocklist:after"),
    ),
    Snapshot: ("images.cut:before", "images.cut:half", "images.cut:after", "images.remove_snap:trashed"),
    Expand: ("images.grow:before", "images.grow:looked", "images.grow:after"),
    Delete: (
        *("images.inspect:after", "images.is_snapped:before", "images.is_snapped:after"),
        *("images.move_to_trash:before", "images.move_to_trash:both", "images.move_to_trash:after"),
    ),
    DeleteSnapshot: ("images.remove_snap:before", "images.remove_snap:trashed", "images.remove_snap:after"),
    Sweep: (
        *("images.purge:before", "images.purge:delisted", "images.purge:unlinked", "images.purge:headless"),
        *("images.purge:after", "images.shrink:before", "images.shrink:after", "images.move_to_trash:both"),
    ),
    Flatten: (
        *("images.flatten:before", "images.flatten:pinned", "images.flatten:copying", "images.flatten:delisted"),
        *(
            "images.flatten:unlinked",
            "images.flatten:after",
            "images.remove_snap:trashed",
            "ancestry.drop_parent:before",
        ),
    ),
}
"""Where librbd and the driver leave the most different things behind."""


@st.composite
def actions(draw: st.DrawFn) -> Action:
    kind = draw(st.sampled_from(_KINDS))
    if kind is Create:
        return Create(
            draw(st.integers(0, VOLUMES - 1)),
            draw(st.sampled_from((None, *range(8)))),
            draw(st.integers(0, 1)),
            draw(st.booleans()),
            draw(st.sampled_from(FlattenMode)),
        )
    if kind is Snapshot:
        return Snapshot(draw(st.integers(0, SNAPSHOTS - 1)), draw(_INDEX))
    if kind is Write:
        return Write(draw(_INDEX), draw(st.integers(0, BLOCKS - 1)), draw(st.integers(1, 9)))
    if issubclass(kind, Sweep | Flatten | Wait | Restart):
        return kind()
    assert issubclass(kind, Expand | Delete | DeleteSnapshot | Attach)
    return kind(draw(_INDEX))


@st.composite
def faults(draw: st.DrawFn, of: type[Action]) -> Fault | None:
    kind = draw(st.sampled_from((None, None, Crash, Meanwhile, Timeout)))
    if kind is None:
        return None
    numbers = st.integers(1, 40)
    point = draw(st.sampled_from(_POINTS[of]) | numbers if of in _POINTS else numbers)
    if kind is Meanwhile:
        return Meanwhile(point, draw(st.none() | actions()), draw(st.booleans()))
    return Crash(point) if kind is Crash else Timeout(point)


@st.composite
def histories(draw: st.DrawFn, length: int) -> list[Step]:
    """Places for so many steps, any of which may stay empty: Hypothesis's own lists would mostly be short."""
    steps: list[Step] = []
    for _ in range(length):
        if not draw(_IS_EMPTY):
            action = draw(actions())
            steps.append(Step(action, draw(st.integers(0, 1)), draw(faults(type(action)))))
    return steps


_INDEX = st.integers(0, 7)
_IS_EMPTY = st.sampled_from((True, False, False, False))
