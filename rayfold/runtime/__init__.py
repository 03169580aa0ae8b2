"""What the processes of a running stack share: calls from socket to socket, batches, collection.

The vocabulary does not know it. It is on the standard library alone, but for `postgres`.
"""

from rayfold.runtime.batching import Batcher, BatchFull
from rayfold.runtime.garbage_collection import collect_rarely
from rayfold.runtime.rpc import (
    Address,
    RpcClient,
    RpcDisconnected,
    RpcServer,
    RpcServerFailed,
    RpcSilent,
)

__all__ = [
    "Address",
    "BatchFull",
    "Batcher",
    "RpcClient",
    "RpcDisconnected",
    "RpcServer",
    "RpcServerFailed",
    "RpcSilent",
    "collect_rarely",
]
