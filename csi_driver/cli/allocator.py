"""What the C library keeps of the memory that is given back to it."""

import ctypes
import os

from csi_driver.rounds import Rounds

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h
_ARENAS = 2

_TRIM_EVERY_S = 60.0


def keep_few_arenas() -> None:
    """To be called before there are threads. Does nothing where the environment says another number, or with another library.

    glibc gives threads arenas of their own, up to eight for each processor, and what librados frees in one of them is of no
    use to the rest (mallopt(3)): a driver grows by tens of MiB until each arena has had its busiest moment.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_ARENA_MAX, _ARENAS)


def memory_rounds() -> Rounds:
    """`give_back`, every minute."""
    return Rounds("memory", give_back, first_after_s=_TRIM_EVERY_S)


def give_back() -> float:
    """What is free goes back to the system (malloc_trim(3)); the seconds until the next time.

    glibc keeps all but what lies at the end of an arena, and after a burst one allocation there holds tens of MiB.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return _TRIM_EVERY_S
