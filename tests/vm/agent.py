"""In the guest: runs one command after another that comes over the virtio port, and sends back what it says and its end.

A line of JSON in: {"argv": [...], "cwd": ..., "env": {...}}; lines out: {"said": text} …, {"code": n}. Only the standard
library, and no import of the project: it is started before there is anything else. Whoever asks bounds the command.
"""

import io
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

PORTS = Path("/dev").glob("vport*p1")


def serve(port: io.FileIO) -> None:
    send(port, {"ready": True})
    while True:
        line = port.readline()
        if not line:  # nobody is connected; the port has no event for the arrival of somebody
            time.sleep(0.05)
            continue
        asked = json.loads(line)
        if asked.get("end"):
            return
        work(port, asked)


def work(port: io.FileIO, asked: dict[str, Any]) -> None:
    try:
        process = subprocess.Popen(
            asked["argv"],
            cwd=asked["cwd"],
            env={**os.environ, **asked["env"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        send(port, {"said": f"{error}\n"})
        send(port, {"code": 127})
        return
    assert process.stdout
    while chunk := os.read(process.stdout.fileno(), 65536):
        send(port, {"said": chunk.decode(errors="replace")})
    send(port, {"code": process.wait()})


def send(port: io.FileIO, message: dict[str, Any]) -> None:
    left = memoryview(json.dumps(message).encode() + b"\n")
    while left:
        left = left[port.write(left) :]


if __name__ == "__main__":
    (port,) = PORTS
    with port.open("r+b", buffering=0) as opened:
        serve(opened)
