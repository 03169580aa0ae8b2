"""Every RPC that is served, by path."""

from eventstore.embedded.persistent.subsystem import Groups
from eventstore.embedded.protocol.call import Methods
from eventstore.embedded.rpc.append import AppendHandler
from eventstore.embedded.rpc.batch_append import BatchAppendHandler
from eventstore.embedded.rpc.delete import DeleteHandlers
from eventstore.embedded.rpc.group_read import GroupReadHandler
from eventstore.embedded.rpc.groups import GroupHandlers
from eventstore.embedded.rpc.node import NodeHandlers
from eventstore.embedded.rpc.operations_service import OperationsHandlers
from eventstore.embedded.rpc.read import ReadHandler
from eventstore.embedded.rpc.v2_streams import V2StreamsHandlers
from eventstore.embedded.storage.store import Store

_STREAMS = "/event_store.client.streams.Streams"
_GROUPS = "/event_store.client.persistent_subscriptions.PersistentSubscriptions"
_OPERATIONS = "/event_store.client.operations.Operations"
_V2 = "/kurrentdb.protocol.v2.streams.StreamsService"


def build_methods(store: Store, groups: Groups, node: NodeHandlers) -> Methods:
    """Return the handlers of one server."""
    deletes = DeleteHandlers(store)
    group = GroupHandlers(store, groups)
    operations = OperationsHandlers(groups)
    v2 = V2StreamsHandlers(store)
    return Methods(
        unary={
            f"{_STREAMS}/Delete": deletes.delete,
            f"{_STREAMS}/Tombstone": deletes.tombstone,
            f"{_GROUPS}/Create": group.create,
            f"{_GROUPS}/Update": group.update,
            f"{_GROUPS}/Delete": group.delete,
            f"{_GROUPS}/GetInfo": group.get_info,
            f"{_GROUPS}/List": group.list,
            f"{_GROUPS}/ReplayParked": group.replay_parked,
            f"{_GROUPS}/RestartSubsystem": group.restart,
            f"{_OPERATIONS}/RestartPersistentSubscriptions": operations.restart_groups,
            f"{_OPERATIONS}/StartScavenge": operations.scavenge,
            f"{_OPERATIONS}/StopScavenge": operations.stop_scavenge,
            f"{_OPERATIONS}/MergeIndexes": operations.nothing,
            f"{_OPERATIONS}/ResignNode": operations.nothing,
            f"{_OPERATIONS}/SetNodePriority": operations.nothing,
            f"{_OPERATIONS}/Shutdown": operations.shutdown,
            f"{_V2}/AppendRecords": v2.append_records,
            "/event_store.client.gossip.Gossip/Read": node.gossip,
            "/event_store.client.server_features.ServerFeatures/GetSupportedMethods": (
                node.supported_methods
            ),
        },
        streaming={
            f"{_STREAMS}/Append": AppendHandler(store),
            f"{_STREAMS}/BatchAppend": BatchAppendHandler(store),
            f"{_STREAMS}/Read": ReadHandler(store),
            f"{_GROUPS}/Read": GroupReadHandler(groups),
            f"{_V2}/AppendSession": v2.append_session,
        },
    )
