"""What a node tells about itself: gossip and server features."""

import re
import time
import uuid
from collections.abc import Callable
from typing import TypeAlias

from kurrentdbclient.protos.v1 import gossip_pb2
from kurrentdbclient.protos.v1.gossip_pb2 import MemberInfo

from eventstore.embedded.protocol.call import Call
from eventstore.embedded.protocol.constants import SERVER_VERSION
from eventstore.embedded.rpc.dynamic_messages import SupportedMethod, SupportedMethods

State: TypeAlias = "MemberInfo.VNodeState.ValueType"

_FEATURES = {
    ("event_store.client.streams.streams", "read"): ["position", "events"],
    ("event_store.client.streams.streams", "batchappend"): ["deadline_duration"],
}
_PORT = re.compile("[0-9]{1,5}")
_GROUPS = "event_store.client.persistent_subscriptions.persistentsubscriptions"


def member_info(
    state: State, address: str, port: int, instance: str, *, is_alive: bool = True
) -> MemberInfo:
    """Return a node as a member in gossip."""
    member = MemberInfo(
        time_stamp=time.time_ns() // 100,
        state=state,
        is_alive=is_alive,
        http_end_point=gossip_pb2.EndPoint(address=address, port=port),
    )
    member.instance_id.string = instance
    return member


class NodeHandlers:
    """Answers for one node, always alive and the leader, unless `members` returns a cluster."""

    def __init__(self, host: str, members: Callable[[], list[MemberInfo]] | None = None) -> None:
        self._host = host
        self._members = members
        self._instance = str(uuid.uuid4())
        self.port = 0
        self._features = b""

    def announce(self, port: int, paths: list[str]) -> None:
        """Set the answers, once port and methods are known."""
        self.port = port
        methods = []
        for path in sorted(paths):
            service, method = path[1:].lower().split("/")
            features = ["stream", "all"] if service == _GROUPS else _FEATURES.get((service, method))
            methods.append(
                SupportedMethod(method_name=method, service_name=service, features=features or [])
            )
        told = SupportedMethods(methods=methods, event_store_server_version=SERVER_VERSION)
        self._features = told.SerializeToString()

    async def gossip(self, raw: bytes, call: Call) -> bytes:
        """Return the cluster's members: this node, or those of `members`."""
        if self._members is not None:
            return gossip_pb2.ClusterInfo(members=self._members()).SerializeToString()
        address, port = self._reached_at(call)
        member = member_info(MemberInfo.Leader, address, port, self._instance)
        return gossip_pb2.ClusterInfo(members=[member]).SerializeToString()

    def _reached_at(self, call: Call) -> tuple[str, int]:
        """Return the address that the caller used, since clients (Node) connect to what they get.

        The bound address may be unreachable for them: 0.0.0.0, or a container's port.
        """
        address, _, port = (call.header(":authority") or "").rpartition(":")
        if address and _PORT.fullmatch(port) and int(port) < 1 << 16:
            return address, int(port)
        return self._host, self.port

    async def supported_methods(self, raw: bytes, call: Call) -> bytes:
        """Answer what Node, .NET and Java ask before they choose an RPC."""
        return self._features
