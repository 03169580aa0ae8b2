"""``Streams.Read``: one RPC, four things."""

from kurrentdbclient.protos.v1 import streams_pb2

from eventstore.embedded.protocol.call import Call, only_request, parse
from eventstore.embedded.rpc.read_pages import read_all, read_stream
from eventstore.embedded.rpc.read_request import read_request
from eventstore.embedded.rpc.subscribe import AllSubscription, StreamSubscription
from eventstore.embedded.storage.store import Store


class ReadHandler:
    """Dispatches a call by its options."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def __call__(self, call: Call) -> None:
        """Serve one call."""
        request = read_request(parse(streams_pb2.ReadReq, await only_request(call)).options)
        if request.count is None:
            if request.stream is None:
                await AllSubscription(self._store, request, call).run()
            else:
                await StreamSubscription(self._store, request, call).run()
        elif request.stream is None:
            await read_all(self._store.log, request, call)
        else:
            await read_stream(self._store.log, request, call)
