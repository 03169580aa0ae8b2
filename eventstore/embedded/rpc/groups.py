"""The unary RPCs of ``PersistentSubscriptions``."""

from dataclasses import replace

from kurrentdbclient.protos.v1 import persistent_pb2, shared_pb2

from eventstore.embedded.persistent.errors import group_failed, group_missing
from eventstore.embedded.persistent.settings import (
    ALL,
    enumerated_strategy,
    settings_of,
    strategy_of,
)
from eventstore.embedded.persistent.subsystem import Groups
from eventstore.embedded.protocol.call import Call, parse
from eventstore.embedded.protocol.constants import MAX
from eventstore.embedded.protocol.errors import handler_failed, invalid_argument
from eventstore.embedded.rpc.group_info import describe
from eventstore.embedded.storage.filters import filter_of
from eventstore.embedded.storage.names import decode_stream_name
from eventstore.embedded.storage.store import Store

_END = 2**63 - 1


class GroupHandlers:
    """Create, Update, Delete, GetInfo, List, ReplayParked, RestartSubsystem."""

    def __init__(self, store: Store, groups: Groups) -> None:
        self._store = store
        self._groups = groups

    async def create(self, raw: bytes, call: Call) -> bytes:
        """Create a group."""
        options = parse(persistent_pb2.CreateReq, raw).options
        stream, start = self._source(options)
        settings = settings_of(
            options.settings,
            stream,
            options.group_name,
            start,
            self._origin(stream, start),
            strategy_of(options.settings),
        )
        if options.all.WhichOneof("filter_option") == "filter":
            wire = options.all.filter
            filter_of(wire)
            on_stream = wire.WhichOneof("filter") == "stream_identifier"
            expression = wire.stream_identifier if on_stream else wire.event_type
            settings = replace(
                settings,
                filter_on_stream=on_stream,
                filter_regex=expression.regex,
                filter_prefixes=tuple(expression.prefix),
            )
        await self._groups.create(settings)
        return persistent_pb2.CreateResp().SerializeToString()

    async def update(self, raw: bytes, call: Call) -> bytes:
        """Give a group new settings; its filter and its progress are kept."""
        options = parse(persistent_pb2.UpdateReq, raw).options
        stream, start = self._source(options)
        old = self._groups.get(stream, options.group_name).settings
        settings = settings_of(
            options.settings,
            stream,
            options.group_name,
            start,
            old.origin if start == old.start else self._origin(stream, start),
            enumerated_strategy(options.settings.named_consumer_strategy),
        )
        settings = replace(
            settings,
            filter_on_stream=old.filter_on_stream,
            filter_regex=old.filter_regex,
            filter_prefixes=old.filter_prefixes,
        )
        await self._groups.update(settings)
        return persistent_pb2.UpdateResp().SerializeToString()

    def _source(
        self, options: persistent_pb2.CreateReq.Options | persistent_pb2.UpdateReq.Options
    ) -> tuple[str, int]:
        stream, start = _source(options)
        if stream == ALL and start > self._store.log.recent.last_position:
            # A position beyond the log comes from another store: the group would skip this
            # store's events. A stream's revision may be ahead of it: it is taken as it is.
            raise group_failed(ALL, options.group_name, "The start position is beyond the log")
        return stream, start

    def _origin(self, stream: str, start: int) -> int:
        """Return the start; "the end" is the present end, also after a restart."""
        if start != -1:
            return start
        if stream == ALL:
            return self._store.log.recent.last_position + 1
        last = self._store.log.info(stream).last
        return 0 if last == MAX else last + 1

    async def delete(self, raw: bytes, call: Call) -> bytes:
        """Delete a group and all it stored."""
        options = parse(persistent_pb2.DeleteReq, raw).options
        await self._groups.delete(stream_of(options), options.group_name)
        return persistent_pb2.DeleteResp().SerializeToString()

    async def get_info(self, raw: bytes, call: Call) -> bytes:
        """Return one group."""
        options = parse(persistent_pb2.GetInfoReq, raw).options
        group = self._groups.get(stream_of(options), options.group_name)
        return persistent_pb2.GetInfoResp(subscription_info=describe(group)).SerializeToString()

    async def list(self, raw: bytes, call: Call) -> bytes:
        """Return all groups, or those of a stream, which must have some."""
        options = parse(persistent_pb2.ListReq, raw).options
        groups = self._groups.all()
        if options.WhichOneof("list_option") == "list_for_stream":
            stream = stream_of(options.list_for_stream, "stream")
            groups = [group for group in groups if group.settings.stream == stream]
            if not groups:
                raise group_missing(stream, "")
        elif options.WhichOneof("list_option") is None:
            raise invalid_argument("'list_option' is a required argument of ListReq.Options")
        answer = persistent_pb2.ListResp(subscriptions=[describe(group) for group in groups])
        return answer.SerializeToString()

    async def replay_parked(self, raw: bytes, call: Call) -> bytes:
        """Begin a replay: answered at once; messages follow as consumers have room."""
        options = parse(persistent_pb2.ReplayParkedReq, raw).options
        group = self._groups.get(stream_of(options), options.group_name)
        limit = options.WhichOneof("stop_at_option")
        if limit is None:
            raise handler_failed()
        group.replay_parked(options.stop_at if limit == "stop_at" else None)
        return persistent_pb2.ReplayParkedResp().SerializeToString()

    async def restart(self, raw: bytes, call: Call) -> bytes:
        """Drop all consumers, load all groups again."""
        await self._groups.restart()
        return shared_pb2.Empty().SerializeToString()


_Streamed = (
    persistent_pb2.DeleteReq.Options
    | persistent_pb2.GetInfoReq.Options
    | persistent_pb2.ReplayParkedReq.Options
    | persistent_pb2.ListReq.StreamOption
    | persistent_pb2.ReadReq.Options
)


def stream_of(options: _Streamed, name: str = "stream_identifier") -> str:
    """Return the stream a request names; ``$all`` for all."""
    kind = options.WhichOneof("stream_option")
    if kind == "all":
        return ALL
    if kind is None:
        raise invalid_argument("'stream_option' is a required argument")
    return decode_stream_name(getattr(options, name).stream_name)


def _source(
    options: persistent_pb2.CreateReq.Options | persistent_pb2.UpdateReq.Options,
) -> tuple[str, int]:
    """Return stream and start (-1: the end). Node still uses the fields deprecated since 21.10."""
    kind = options.WhichOneof("stream_option")
    if kind == "all":
        if options.all.WhichOneof("all_option") == "position":
            return ALL, min(options.all.position.commit_position, _END)
        return ALL, -1 if options.all.WhichOneof("all_option") == "end" else 0
    if kind == "stream":
        raw = options.stream.stream_identifier.stream_name
        start = -1 if options.stream.WhichOneof("revision_option") == "end" else 0
        if options.stream.WhichOneof("revision_option") == "revision":
            start = min(options.stream.revision, _END)
    else:
        raw = options.stream_identifier.stream_name
        start = options.settings.revision
        start = -1 if start >= _END else start
    name = raw.decode(errors="replace")
    if not name or name == ALL:
        raise group_failed(name, options.group_name, "The stream name is not valid")
    return decode_stream_name(raw), start
