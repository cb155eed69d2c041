"""Images made of static programs, as OCI archives, for a containerd that can pull from nowhere."""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_OCI = "application/vnd.oci.image"
_DIRECTORIES = ("bin", "etc", "tmp", "proc", "sys", "dev", "var", "root", "usr", "usr/bin")


@dataclass
class _Archive:
    blobs: dict[str, bytes] = field(default_factory=dict)

    def add(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Its descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def add_json(self, value: Mapping[str, Any], media_type: str) -> dict[str, Any]:
        return self.add(json.dumps(value).encode(), media_type)


def write_image(archive: Path, reference: str, entry_point: str, programs: Mapping[str, Path]) -> None:
    """programs: the file of each, by its absolute path in the image; a busybox gets the links of its applets."""
    layer = _layer(programs)
    content = _Archive()
    config = content.add_json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": [entry_point], "Env": ["PATH=/bin:/usr/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        },
        f"{_OCI}.config.v1+json",
    )
    packed = content.add(gzip.compress(layer, 1, mtime=0), f"{_OCI}.layer.v1.tar+gzip")
    media_type = f"{_OCI}.manifest.v1+json"
    manifest = content.add_json(
        {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [packed]}, media_type
    )
    names = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference.rpartition(":")[2]}
    index = {"schemaVersion": 2, "manifests": [{**manifest, "annotations": names}]}
    with tarfile.open(archive, "w") as tar:
        _put(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _put(tar, "index.json", json.dumps(index).encode())
        for digest, data in content.blobs.items():
            _put(tar, f"blobs/sha256/{digest}", data)


def _layer(programs: Mapping[str, Path]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for directory in _DIRECTORIES:
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            tar.addfile(entry)
        _put(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        for target, program in programs.items():
            _put(tar, target.lstrip("/"), program.read_bytes(), mode=0o755)
            if program.name == "busybox":
                _link_applets(tar, program, target)
    return packed.getvalue()


def _link_applets(tar: tarfile.TarFile, busybox: Path, target: str) -> None:
    for applet in subprocess.run([str(busybox), "--list"], check=True, capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
            tar.addfile(entry)


def _put(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))
