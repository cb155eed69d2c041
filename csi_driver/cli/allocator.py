"""What the C library keeps of the memory that is given back to it."""

import ctypes
import os

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h
_ARENAS = 2


def keep_few_arenas() -> None:
    """To be called before there are threads. Does nothing where the environment says another number, or with another library.

    glibc gives threads arenas of their own, up to eight for each processor, and what librados frees in one of them is of no
    use to the rest (mallopt(3)): a driver grows by tens of MiB until each arena has had its busiest moment.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_ARENA_MAX, _ARENAS)
