"""scripts/proto: write the stubs; --check: fail when they are stale; --official: compare with the specification."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import click

from tests.golang import go
from tests.proto import contract, stubs

MODULE = "github.com/container-storage-interface/spec"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/proto", description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when csi_driver/pb is not what proto/ gives")
    parser.add_argument("--official", action="store_true", help="fetch the specification and compare proto/ with it")
    choice = parser.parse_args()
    if choice.official:
        return compare_with_official()
    if choice.check:
        return check()
    stubs.generate(stubs.ROOT)
    return 0


def check() -> int:
    stale = stubs.stale_files()
    if stale:
        click.echo(f"csi_driver/pb differs from proto/csi.proto in {', '.join(stale)}: run scripts/proto", err=True)
        return 1
    click.echo("csi_driver/pb is what proto/csi.proto gives")
    return 0


def compare_with_official() -> int:
    ours = contract.elements(stubs.ROOT / "proto" / "csi.proto")
    official = contract.elements(fetch_official())
    if delta := contract.difference(ours, official):
        click.echo("\n".join(delta), err=True)
        return 1
    if contract.digest(official) != contract.DIGEST:
        click.echo(f"{contract.RELEASE} has the digest {contract.digest(official)}, not the pinned one", err=True)
        return 1
    click.echo(
        f"proto/csi.proto is the contract of {MODULE} {contract.RELEASE}: {len(ours)} elements, {contract.DIGEST}"
    )
    return 0


def fetch_official() -> Path:
    command = [str(go()), "mod", "download", "-json", f"{MODULE}@{contract.RELEASE}"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return Path(json.loads(answer.stdout)["Dir"]) / "csi.proto"


if __name__ == "__main__":
    sys.exit(main())
