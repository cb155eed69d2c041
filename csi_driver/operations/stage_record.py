"""What a stage leaves on disk, in the layout of the Go driver so that staged volumes survive a change of driver.

Below the staging target path of the request:
  <volume id>        where the volume is: a directory with the file system, or a file with the device bound on it
  image-meta.json    the record. Version 3; pool, radosNamespace, image, unmapOptions, accessType (true: nbd), encrypted,
                     device, logDir, logFileStrategy are the Go driver's keys. `rbdCsi` is ours: volume, attacher,
                     capability, `readOnly` for an attachment that writes nothing, in `formatting` the boot during
                     which our mkfs was started and not yet seen to end, in `ioMax` limits that each pod gets, and in
                     `mapOptions` and `cluster` what the attacher has to be told to serve the image once more.
  publications.json  ours: each target path of a publish, with its capability and read-only flag
Order: the record is written before the image is attached and removed after it is detached; a publication is written before
its mount and removed after it. So a record can be without its mount, never a mount without its record; the mount table
alone says what is mounted. Files are replaced by rename and synced: a reader finds the old text or the new.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csi_driver.errors import DeviceTrouble, Inconsistent
from csi_driver.host.api import Attachment
from csi_driver.model import AccessMode, Capability

_RECORD, _PUBLICATIONS = "image-meta.json", "publications.json"
_VERSION = 3


@dataclass(frozen=True)
class StagePlace:
    """The paths of one volume's stage."""

    path: Path
    volume_id: str

    @property
    def volume_path(self) -> Path:
        return self.path / self.volume_id


@dataclass(frozen=True)
class StageRecord:
    """image-meta.json. capability is None in the Go driver's records, which do not hold it."""

    attachment: Attachment
    attacher: str
    capability: Capability | None
    unmap_options: str = ""
    device: str = ""
    formatting: str = ""
    is_encrypted: bool = False
    io_max: str = ""
    """Limits in the words of `io.max`; empty where there are none, or what attached the image holds them."""
    map_options: tuple[str, ...] = ()
    """The attacher's own."""
    cluster_id: str = ""
    """Of an image that no journal knows; else the volume id tells it."""


@dataclass(frozen=True)
class Publication:
    """One target path. read_only is what the target's mount shows: asked for, or implied by the access mode."""

    target: Path
    capability: Capability
    read_only: bool


def load(place: StagePlace) -> StageRecord | None:
    """The record of this volume; None when there is none, or it is another volume's. Raises Inconsistent."""
    text = _read(place.path / _RECORD)
    if text is None:
        return None
    own = text.get("rbdCsi", {})
    try:
        if own.get("volume", place.volume_id) != place.volume_id:
            return None
        capability = _parse_capability(own["capability"]) if own else None
        attachment = Attachment(
            volume_id=place.volume_id,
            pool=text["pool"],
            rados_namespace=text.get("radosNamespace", ""),
            image=text["image"],
            read_only=bool(own.get("readOnly", capability is not None and capability.mode.is_read_only)),
        )
        attacher = own.get("attacher") or ("nbd" if text.get("accessType") else "krbd")
        return StageRecord(
            attachment,
            attacher,
            capability,
            unmap_options=text.get("unmapOptions", ""),
            device=text.get("device", ""),
            formatting=own.get("formatting", ""),
            io_max=own.get("ioMax", ""),
            map_options=tuple(own.get("mapOptions", ())),
            cluster_id=own.get("cluster", ""),
            is_encrypted=bool(text.get("encrypted", False)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as odd:
        raise Inconsistent(f"{place.path / _RECORD} is not a stage record: {odd!r}") from odd


def save(place: StagePlace, record: StageRecord) -> None:
    assert record.capability
    _write(
        place.path / _RECORD,
        {
            "Version": _VERSION,
            "pool": record.attachment.pool,
            "radosNamespace": record.attachment.rados_namespace,
            "image": record.attachment.image,
            "unmapOptions": record.unmap_options,
            "accessType": record.attacher == "nbd",
            "encrypted": record.is_encrypted,
            "device": record.device,
            "logDir": "",
            "logFileStrategy": "",
            "rbdCsi": {
                "volume": record.attachment.volume_id,
                "attacher": record.attacher,
                "capability": _capability_values(record.capability),
                "readOnly": record.attachment.read_only,
                "formatting": record.formatting,
                **_given(ioMax=record.io_max, mapOptions=list(record.map_options), cluster=record.cluster_id),
            },
        },
    )


def _given(**values: object) -> dict[str, object]:
    return {key: value for key, value in values.items() if value}


def remove(place: StagePlace) -> None:
    """Forgets publications and stage; the record goes last."""
    for name in (_PUBLICATIONS, _RECORD):
        (place.path / name).unlink(missing_ok=True)


def load_publications(place: StagePlace) -> dict[Path, Publication]:
    """By target path. Raises Inconsistent."""
    values = _read(place.path / _PUBLICATIONS) or {}
    try:
        return {
            Path(target): Publication(Path(target), _parse_capability(value["capability"]), bool(value["readOnly"]))
            for target, value in values.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as odd:
        raise Inconsistent(f"{place.path / _PUBLICATIONS} does not list publications: {odd!r}") from odd


def save_publications(place: StagePlace, publications: Mapping[Path, Publication]) -> None:
    _write(
        place.path / _PUBLICATIONS,
        {
            str(target): {"capability": _capability_values(entry.capability), "readOnly": entry.read_only}
            for target, entry in publications.items()
        },
    )


def _capability_values(capability: Capability) -> dict[str, object]:
    return {
        "mode": str(capability.mode),
        "block": capability.is_block,
        "fsType": capability.fs_type,
        "mountFlags": list(capability.mount_flags),
    }


def _parse_capability(values: Mapping[str, Any]) -> Capability:
    return Capability(
        AccessMode(values["mode"]), bool(values["block"]), str(values["fsType"]), tuple(values["mountFlags"])
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as odd:
        raise Inconsistent(f"{path} is not JSON: {odd}") from odd
    if not isinstance(values, dict):
        raise Inconsistent(f"{path} is not a JSON object")
    return values


def _write(path: Path, values: Mapping[str, object]) -> None:
    try:
        _replace(path, values)
    except OSError as error:
        raise DeviceTrouble(f"cannot write {path}: {error.strerror}") from error


def _replace(path: Path, values: Mapping[str, object]) -> None:
    temporary = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()  # a crash's
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        json.dump(values, opened)
        opened.flush()
        os.fsync(opened.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
