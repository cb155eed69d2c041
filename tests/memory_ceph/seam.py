"""Where clients call the in-memory Ceph: the points at which one may be made to die, and the blocklist."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial, wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Crash(BaseException):
    """The process ends here: nothing of the driver catches it."""


class Later(Exception):
    """The client has no answer, and the call is made all the same: by whoever catches this and takes `make`.

    Raised before a call, by the client's test; `outcome` is what the client sees.
    """

    def __init__(self, outcome: BaseException) -> None:
        self.outcome = outcome
        self.make: Callable[[], object] = lambda: None
        super().__init__(outcome)


class Link(Protocol):
    """A connection, as the calls on it see it."""

    def begin(self, call: str) -> None:
        """The point before it. Raises ClusterUnavailable for a client on the blocklist, or what the client's test wants."""

    def refuse_fenced(self, call: str) -> None:
        """Where a call goes on after a point within it. Raises ClusterUnavailable for a client on the blocklist."""

    def reach(self, point: str) -> None:
        """A point within or after a call. Raises what the client's test wants."""

    def replace(self) -> None:
        """The next call gets another connection."""

    @property
    def guard(self) -> AbstractContextManager[object]:
        """Held by one call at a time."""


def _go_on(_point: str, _link: Link) -> None:
    return None


class Client:
    """One process, as the cluster sees it. A dead one makes no more calls, whatever its clean-up wants."""

    def __init__(self) -> None:
        self.is_dead = False
        self.at_point: Callable[[str, Link], None] = _go_on

    def die(self, point: str) -> None:
        self.is_dead = True
        raise Crash(point)


class Linked(Protocol):
    """Part of a pool whose calls go over one connection."""

    @property
    def link(self) -> Link: ...


S = TypeVar("S", bound=Linked)


def seam(call: str) -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]:
    """A call of a client: atomic, with a point before and one after it, and refused to a client on the blocklist."""

    def wrap(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        after = f"{call}:after"

        @wraps(method)
        def through(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            link = self.link
            try:
                link.begin(call)
            except Later as later:
                later.make = partial(method, self, *args, **kwargs)
                raise later.outcome from None
            with link.guard:
                result = method(self, *args, **kwargs)
            link.reach(after)
            return result

        return through

    return wrap
