"""The part of librbd's bindings (python3-rbd 16.2 and later) that the driver and its tests call."""

from collections.abc import Callable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Self, TypedDict

RBD_FEATURE_LAYERING: int
RBD_FEATURE_STRIPINGV2: int
RBD_FEATURE_EXCLUSIVE_LOCK: int
RBD_FEATURE_OBJECT_MAP: int
RBD_FEATURE_FAST_DIFF: int
RBD_FEATURE_DEEP_FLATTEN: int
RBD_FEATURE_JOURNALING: int
RBD_FEATURE_DATA_POOL: int

class Error(Exception):
    errno: int | None

class TrashItem(TypedDict):
    id: str
    name: str
    source: str
    deletion_time: datetime
    deferment_end_time: datetime

class SnapItem(TypedDict):
    id: int
    name: str
    size: int
    namespace: int

class TrashSnap(TypedDict):
    original_name: str

class WatcherItem(TypedDict):
    addr: str
    id: int
    cookie: int

class Lockers(TypedDict):
    lockers: list[tuple[str, str, str]]

class RBD:
    def create(
        self,
        ioctx: object,
        name: str,
        size: int,
        order: int | None = None,
        old_format: bool = False,
        features: int | None = None,
        stripe_unit: int | None = None,
        stripe_count: int | None = None,
        data_pool: str | None = None,
    ) -> None: ...
    def clone(
        self,
        p_ioctx: object,
        p_name: str,
        p_snapname: str,
        c_ioctx: object,
        c_name: str,
        features: int | None = None,
        order: int | None = None,
        stripe_unit: int | None = None,
        stripe_count: int | None = None,
        data_pool: str | None = None,
    ) -> None: ...
    def remove(self, ioctx: object, name: str) -> None: ...
    def trash_move(self, ioctx: object, name: str, delay: int = 0) -> None: ...
    def trash_remove(self, ioctx: object, image_id: str, force: bool = False) -> None: ...
    def trash_restore(self, ioctx: object, image_id: str, name: str) -> None: ...
    def trash_get(self, ioctx: object, image_id: str) -> TrashItem: ...
    def trash_list(self, ioctx: object) -> Iterator[TrashItem]: ...

class Image:
    def __init__(
        self,
        ioctx: object,
        name: str | None = None,
        snapshot: str | None = None,
        read_only: bool = False,
        image_id: str | None = None,
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def close(self) -> None: ...
    def write(self, data: bytes, offset: int) -> int: ...
    def read(self, offset: int, length: int) -> bytes: ...
    def id(self) -> str: ...
    def size(self) -> int: ...
    def features(self) -> int: ...
    def data_pool_id(self) -> int: ...
    def resize(self, size: int, allow_shrink: bool = True) -> None: ...
    def create_snap(self, name: str) -> None: ...
    def remove_snap(self, name: str) -> None: ...
    def remove_snap_by_id(self, snap_id: int) -> None: ...
    def protect_snap(self, name: str) -> None: ...
    def unprotect_snap(self, name: str) -> None: ...
    def is_protected_snap(self, name: str) -> bool: ...
    def get_snap_timestamp(self, snap_id: int) -> datetime: ...
    def snap_get_trash_namespace(self, snap_id: int) -> TrashSnap: ...
    def flatten(self, on_progress: Callable[[int, int], int] | None = None) -> None: ...
    def parent_info(self) -> tuple[str, str, str]: ...
    def list_snaps(self) -> Iterator[SnapItem]: ...
    def watchers_list(self) -> Iterator[WatcherItem]: ...
    def list_lockers(self) -> Lockers | None: ...
    def metadata_list(self) -> Iterator[tuple[str, str]]: ...
