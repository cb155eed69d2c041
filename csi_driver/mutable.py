"""Parameters of a volume that can be changed while it lives: limits of its I/O, flatten policy, retention.

They stand in the volume's entry as one value with a number that each change raises. The limits are also settings of the
image (`rbd_qos_…`), written after the entry together with that number, so that an older write that comes late is known.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from csi_driver.errors import InvalidRequest

GIB = 1 << 30

Value = int | str

MOST = 10**12
"""Of any limit: what librbd computes from it stays far below 64 bits."""


@dataclass(frozen=True)
class Rate:
    """One thing that is limited: operations or bytes per second, of reads, writes or both. noun: as in the keys."""

    noun: str
    setting: str

    @property
    def base(self) -> str:
        return f"base{self.noun}"

    @property
    def most(self) -> str:
        return f"max{self.noun}"

    @property
    def per_gib(self) -> str:
        return f"{self.noun[0].lower()}{self.noun[1:]}PerGiB"

    @property
    def burst(self) -> str:
        return f"burst{self.noun}"

    @property
    def limit_setting(self) -> str:
        return f"rbd_qos_{self.setting}_limit"

    @property
    def burst_setting(self) -> str:
        return f"rbd_qos_{self.setting}_burst"


RATES = (
    Rate("Iops", "iops"),
    Rate("ReadIops", "read_iops"),
    Rate("WriteIops", "write_iops"),
    Rate("Bps", "bps"),
    Rate("ReadBps", "read_bps"),
    Rate("WriteBps", "write_bps"),
)

BASE_SIZE = "baseVolSizeBytes"
LIMIT_KEYS = (*(key for one in RATES for key in (one.base, one.most, one.per_gib, one.burst)), BASE_SIZE)

FLATTEN, SOFT_DEPTH, HARD_DEPTH = "flatten", "softCloneDepth", "hardCloneDepth"
FLATTEN_KEYS = (FLATTEN, SOFT_DEPTH, HARD_DEPTH)
RETENTION = "trashRetention"

METADATA_PREFIX = "conf_"
"""Before a setting's name among an image's metadata: librbd takes it over when it reads the image's header."""


@dataclass(frozen=True)
class DeviceLimits:
    """What a block device may do in a second, operations and bytes; 0: no limit."""

    read_iops: int = 0
    write_iops: int = 0
    read_bps: int = 0
    write_bps: int = 0

    def __str__(self) -> str:
        """In the words of `io.max` (Linux: Documentation/admin-guide/cgroup-v2.rst); empty for no limits."""
        words = {"riops": self.read_iops, "wiops": self.write_iops, "rbps": self.read_bps, "wbps": self.write_bps}
        return " ".join(f"{word}={limit}" for word, limit in words.items() if limit)


NO_LIMITS = DeviceLimits()


@dataclass(frozen=True)
class MutableParameters:
    """What was set, by key, and how often it was changed: 0 where nothing ever was. A limit of 0 is not kept."""

    version: int = 0
    values: Mapping[str, Value] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "MutableParameters":
        """Of the journal's text; empty: nothing."""
        return cls(**json.loads(text)) if text else cls()

    def __str__(self) -> str:
        """As the journal keeps it; ASCII, and one text for one content, since it is compared."""
        if not self.version:
            return ""
        return json.dumps({"version": self.version, "values": dict(self.values)}, sort_keys=True)

    def changed(self, change: Mapping[str, Value]) -> "MutableParameters":
        """With other values for these keys; the same where that changes nothing."""
        merged = {**self.values, **change}
        values = {key: value for key, value in merged.items() if value or key not in LIMIT_KEYS}
        return self if values == self.values else MutableParameters(self.version + 1, values)

    def renumbered(self) -> "MutableParameters":
        """Before the settings are written anew, since they follow the size."""
        return replace(self, version=self.version + 1)

    # ── limits ──

    @property
    def has_limits(self) -> bool:
        return bool(self.values.keys() & set(LIMIT_KEYS))

    @property
    def follows_size(self) -> bool:
        return any(one.per_gib in self.values for one in RATES)

    def settings(self, size_bytes: int) -> dict[str, str]:
        """The image's settings at this size, by their names among its metadata."""
        found: dict[str, int] = {}
        for rate in RATES:
            if limit := self._limit(rate, size_bytes):
                found[rate.limit_setting] = limit
                if burst := self._number(rate.burst):
                    found[rate.burst_setting] = max(burst, limit)  # librbd drops a limit whose burst is below it
        return {METADATA_PREFIX + name: str(value) for name, value in found.items()}

    def device_limits(self, size_bytes: int) -> DeviceLimits:
        """The same for who knows reads and writes alone: a limit of both together holds for each of them."""
        limits = {rate.setting: self._limit(rate, size_bytes) for rate in RATES}

        def least(direction: str, noun: str) -> int:
            return min(filter(None, (limits[noun], limits[f"{direction}_{noun}"])), default=0)

        return DeviceLimits(least("read", "iops"), least("write", "iops"), least("read", "bps"), least("write", "bps"))

    def _limit(self, rate: Rate, size_bytes: int) -> int:
        """0 for none. What grows with the size begins above `baseVolSizeBytes` and is never none."""
        most = self._number(rate.most)
        gibs = max(size_bytes - self._number(BASE_SIZE), 0) // GIB
        limit = self._number(rate.base) + self._number(rate.per_gib) * gibs
        if not limit:
            limit = 1 if rate.per_gib in self.values else most
        return min(limit, most or MOST)

    def _number(self, key: str) -> int:
        return int(self.values.get(key, 0))

    # ── the rest ──

    def retention_s(self, of_class: int) -> int:
        return int(self.values.get(RETENTION, of_class))

    def check_limits(self) -> None:
        """What no key alone shows. Raises InvalidRequest."""
        if not self.values:
            return
        for rate in RATES:
            base, most, burst = (self._number(key) for key in (rate.base, rate.most, rate.burst))
            if most and base > most:
                raise InvalidRequest(f"{rate.base} is {base}; allowed is at most {rate.most}, which is {most}")
            if burst and not (base or most or rate.per_gib in self.values):
                raise InvalidRequest(f"{rate.burst} is {burst}, but {rate.base} sets no limit that a burst may exceed")
            least = base if base or rate.per_gib in self.values else most
            if burst and burst < least:
                raise InvalidRequest(f"{rate.burst} is {burst}; allowed is at least the limit, which is {least}")
        if BASE_SIZE in self.values and not self.follows_size:
            raise InvalidRequest(f"{BASE_SIZE} is {self.values[BASE_SIZE]}, but no limit follows the size")


NOTHING_SET = MutableParameters()

ALL_SETTINGS = tuple(METADATA_PREFIX + name for one in RATES for name in (one.limit_setting, one.burst_setting))
