"""LUKS headers in plain files: what a key opens is asked of cryptsetup itself, without a device mapper."""

import subprocess
from pathlib import Path

BYTES = 4 << 20
"""A header with small areas, and something behind it."""
_WRONG_PASSPHRASE = 2
_QUICK = (
    "--pbkdf-force-iterations",
    "4",
    "--pbkdf-memory",
    "32",
    "--luks2-metadata-size",
    "16k",
    "--luks2-keyslots-size",
    "256k",
)


def formatted(path: Path, passphrase: str) -> bytes:
    """What luksFormat writes on an empty device of so many bytes; opened at once, unlike a volume's."""
    with path.open("wb") as opened:
        opened.truncate(BYTES)
    argv = ["cryptsetup", "--batch-mode", "luksFormat", "--type", "luks2", *_QUICK, "--key-file", "-", str(path)]
    subprocess.run(argv, input=passphrase, text=True, timeout=120, check=True)
    return path.read_bytes()


def opens(path: Path, passphrase: str) -> bool:
    argv = ["cryptsetup", "open", "--test-passphrase", "--key-file", "-", str(path)]
    ended = subprocess.run(argv, input=passphrase, text=True, capture_output=True, timeout=120, check=False)
    assert ended.returncode in (0, _WRONG_PASSPHRASE), ended.stderr
    return ended.returncode == 0
