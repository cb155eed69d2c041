"""Writes csi_driver/pb from proto/csi.proto, or tells whether what stands there is what would be written.

The proto path is mapped to csi_driver/pb, so the generated imports name the package as it is and the bytes need no
change afterwards.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = Path("csi_driver/pb")


def generate(into: Path) -> None:
    """Writes the stubs below the given directory, under csi_driver/pb."""
    (into / PACKAGE).mkdir(parents=True, exist_ok=True)
    plugins = Path(sys.executable).parent  # protoc looks for the mypy plugins in PATH
    outputs = [f"--python_out={into}", f"--grpc_python_out={into}"]
    outputs += [f"--mypy_out=quiet:{into}", f"--mypy_grpc_out=quiet,generate_concrete_servicer_stubs:{into}"]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{PACKAGE}=proto", *outputs, str(PACKAGE / "csi.proto")],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{plugins}{os.pathsep}{os.environ['PATH']}"},
        check=True,
    )


def stale_files() -> list[str]:
    """The files of csi_driver/pb that differ from what the generators write now, are missing or are too many."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh, kept = _contents(Path(scratch)), _contents(ROOT)
    return sorted(name for name in fresh.keys() | kept.keys() if fresh.get(name) != kept.get(name))


def _contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / PACKAGE).glob("*_pb2*.py*")}
