"""`python -m tests.node.one_call SETTING METHOD REQUEST`: one RPC's work in a process of its own.

SETTING is a Setting's JSON, REQUEST the request's protobuf in hexadecimal. Prints nothing; raises what the RPC raises.
"""

import os
import sys
import time
from typing import Any, cast

import grpc

from csi_driver import failpoints, tracing
from csi_driver.pb import csi_pb2 as pb
from csi_driver.rpc.gate import Gates
from csi_driver.rpc.node import KnownClusters, NodeInfo, NodeService
from tests.node.machine import Setting


def main() -> None:
    call(os.environ.get(failpoints.VARIABLE, ""), *sys.argv[1:])


def call(armed: str, setting: str, method: str, request: str) -> None:
    """With these fail points."""
    tracing.begin(tracing.Call(method, deadline=time.monotonic() + 60))
    failpoints.arm(armed)
    clusters = KnownClusters(lambda _cluster_id: True)
    service = NodeService(Setting.parse(setting).operations(), NodeInfo("node-1"), Gates(), clusters)
    message: Any = getattr(pb, f"{method}Request").FromString(bytes.fromhex(request))
    getattr(service, method)(message, cast("grpc.ServicerContext", None))


if __name__ == "__main__":
    main()
