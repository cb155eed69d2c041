"""A refusal by Ceph that comes after something was begun is not final: the sidecars would never come back to what is left."""

from collections.abc import Iterator
from contextlib import contextmanager

from csi_driver.errors import AccessDenied, ClusterUnavailable, DriverError, NoSpace, NotFound
from csi_driver.journal.journal import Journal
from csi_driver.journal.reading import E

REFUSALS = (NoSpace, AccessDenied, NotFound)
"""What Ceph may say to any call, and that the source is gone: another create of the name may have found it there, and have
begun. Other refusals are the driver's own, and come before anything is begun, or after the end.
"""


def told(refusal: DriverError, journal: Journal[E], request_name: str) -> DriverError:
    """What is to be answered: the refusal when nothing stands under the name, else an invitation to call again."""
    if journal.find(request_name) is None:
        return refusal
    return ClusterUnavailable(f"{refusal}; what stands under the name {request_name!r} is left to the repeated call")


@contextmanager
def going_on(subject: str) -> Iterator[None]:
    """A delete that has begun and is refused by a full pool goes on when it is repeated."""
    try:
        yield
    except NoSpace as full:
        raise ClusterUnavailable(f"the deletion of {subject} goes on when it is repeated: {full}") from full
