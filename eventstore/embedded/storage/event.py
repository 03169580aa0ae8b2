"""What is proposed, and what is recorded."""

from kurrentdbclient.protos.v1 import streams_pb2

from eventstore.embedded.protocol.event_encoding import record_of

Record = streams_pb2.ReadResp.ReadEvent.RecordedEvent


class Proposed:
    """An event to append, without a revision yet."""

    __slots__ = ("data", "id", "is_json", "metadata", "type")

    def __init__(self, id: bytes, type: str, is_json: bool, data: bytes, metadata: bytes) -> None:
        self.id = id
        self.type = type
        self.is_json = is_json
        self.data = data
        self.metadata = metadata

    @property
    def size(self) -> int:
        """Bytes as the server counts them: data, metadata, two per character of the type."""
        return len(self.data) + len(self.metadata) + 2 * len(self.type)


class Event:
    """A recorded event, immutable, shared by the recent events and everyone who sends it."""

    __slots__ = ("created", "flags", "id", "position", "resp", "revision", "sid", "stream", "type")

    def __init__(
        self,
        position: int,
        sid: int,
        stream: str,
        revision: int,
        id: bytes,
        type: str,
        flags: int,
        created: int,
        resp: bytes,
    ) -> None:
        self.position = position
        self.sid = sid
        self.stream = stream
        self.revision = revision
        self.id = id
        self.type = type
        self.flags = flags
        self.created = created
        self.resp = resp

    def record(self) -> Record:
        """Return the decoded record, for the few that look inside (metadata, links)."""
        return Record.FromString(record_of(self.resp))
