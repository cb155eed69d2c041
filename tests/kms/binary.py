"""The Vault server of go/, built once from the module's own parts, into a directory that outlives the checkout."""

import hashlib
import os
import subprocess
from pathlib import Path

from tests.golang import go

_SOURCE = Path(__file__).parent / "go"


def vault_server() -> Path:
    """The program as go.mod and main.go say. Its build takes some ten minutes on two cores: `python -m tests.kms.binary`."""
    source = b"".join((_SOURCE / name).read_bytes() for name in ("go.mod", "go.sum", "main.go"))
    home = Path(os.environ.get("XDG_CACHE_HOME", "/var/cache")) / "rbd-csi" / "vault"
    program = home / hashlib.sha256(source).hexdigest()[:16]
    if not program.exists():
        home.mkdir(parents=True, exist_ok=True)
        unfinished = home / f"{program.name}.part{os.getpid()}"
        environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-trimpath -mod=readonly"}
        command = ["nice", str(go()), "build", "-ldflags", "-s -w", "-o", str(unfinished), "."]
        subprocess.run(command, cwd=_SOURCE, env=environment, check=True)
        unfinished.rename(program)
    return program


if __name__ == "__main__":
    print(vault_server())  # noqa: T201
