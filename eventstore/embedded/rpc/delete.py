"""``Streams.Delete`` and ``Streams.Tombstone``."""

from collections.abc import Callable

from kurrentdbclient.protos.v1 import streams_pb2

from eventstore.embedded.protocol.call import Call, parse
from eventstore.embedded.protocol.errors import stream_deleted, wrong_expected_version
from eventstore.embedded.rpc.requests import expected_revision
from eventstore.embedded.storage.check import Decision, Verdict
from eventstore.embedded.storage.names import decode_stream_name
from eventstore.embedded.storage.operations import Delete, Tombstone
from eventstore.embedded.storage.store import Store


class DeleteHandlers:
    """Both unary; they differ in what is written."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def delete(self, raw: bytes, call: Call) -> bytes:
        """Delete softly: the next append continues the numbering."""
        options = parse(streams_pb2.DeleteReq, raw).options
        position = await self._run(options, Delete)
        answer = streams_pb2.DeleteResp()
        answer.position.commit_position = answer.position.prepare_position = position
        return answer.SerializeToString()

    async def tombstone(self, raw: bytes, call: Call) -> bytes:
        """Delete for good: the name can never be used again."""
        options = parse(streams_pb2.TombstoneReq, raw).options
        position = await self._run(options, Tombstone)
        answer = streams_pb2.TombstoneResp()
        answer.position.commit_position = answer.position.prepare_position = position
        return answer.SerializeToString()

    async def _run(
        self,
        options: streams_pb2.DeleteReq.Options | streams_pb2.TombstoneReq.Options,
        kind: Callable[[str, int], Delete | Tombstone],
    ) -> int:
        stream = decode_stream_name(options.stream_identifier.stream_name)
        expected = expected_revision(
            options.WhichOneof("expected_stream_revision"), options.revision
        )
        verdict = await self._store.write(kind(stream, expected), Verdict)
        if verdict.decision is Decision.DELETED:
            raise stream_deleted(stream)
        if verdict.decision is Decision.WRONG:
            raise wrong_expected_version(stream, expected, verdict.revision)
        return verdict.position
