"""A ``Streams.Read`` request, checked and in our own terms."""

from dataclasses import dataclass
from enum import Enum, auto

from kurrentdbclient.protos.v1 import streams_pb2

from eventstore.embedded.protocol.constants import MAX
from eventstore.embedded.protocol.errors import invalid_argument
from eventstore.embedded.storage.filters import EVERYTHING, EventFilter, filter_of
from eventstore.embedded.storage.names import decode_stream_name

Options = streams_pb2.ReadReq.Options


class Edge(Enum):
    """Where to start if not at a given revision or position."""

    START = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What to read, and in which form."""

    stream: str | None
    """None reads ``$all``."""
    start: int | Edge
    backwards: bool
    count: int | None
    """None subscribes."""
    match: EventFilter
    checkpoint_interval: int
    resolve_links: bool
    structured: bool
    compatibility: int


def read_request(options: Options) -> ReadRequest:
    """Raise ``INVALID_ARGUMENT`` for what the protocol doesn't know."""
    source = options.WhichOneof("stream_option")
    count_option = options.WhichOneof("count_option")
    filter_option = options.WhichOneof("filter_option")
    uuid_option = options.uuid_option.WhichOneof("content")
    backwards = options.read_direction == Options.Backwards
    subscribes = count_option == "subscription"
    if uuid_option is None:
        raise invalid_argument("'uuid_option' is a required argument of ReadReq.Options")
    filtered = filter_option == "filter"
    if (
        source is None
        or count_option is None
        or filter_option is None
        or options.read_direction not in (Options.Forwards, Options.Backwards)
        or (source == "stream" and filtered)
        or (subscribes and backwards)
    ):
        raise invalid_argument(
            f"The combination of ({source}, {count_option}, "
            f"{'Backwards' if backwards else 'Forwards'}, {filter_option}) is invalid."
        )
    interval = 0
    if filtered and subscribes:
        window = options.filter.max if options.filter.WhichOneof("window") == "max" else 32
        interval = window * options.filter.checkpointIntervalMultiplier
        if interval == 0:
            raise invalid_argument("The checkpoint interval multiplier must be greater than 0.")
    stream = None
    if source == "stream":
        stream = decode_stream_name(options.stream.stream_identifier.stream_name)
    return ReadRequest(
        stream=stream,
        start=_start(options),
        backwards=backwards,
        count=None if subscribes else min(options.count, MAX),
        match=filter_of(options.filter) if filtered else EVERYTHING,
        checkpoint_interval=interval,
        resolve_links=options.resolve_links,
        structured=uuid_option == "structured",
        compatibility=options.control_option.compatibility,
    )


def _start(options: Options) -> int | Edge:
    if options.WhichOneof("stream_option") == "stream":
        kind: str | None = options.stream.WhichOneof("revision_option")
        given = options.stream.revision
    else:
        kind = options.all.WhichOneof("all_option")
        given = options.all.position.commit_position
    if kind == "end":
        return Edge.END
    if kind == "start":
        return Edge.START
    if kind is None:
        # A subscription without a start begins at the beginning; a read without one is invalid.
        if options.WhichOneof("count_option") == "subscription":
            return Edge.START
        raise invalid_argument("The start of the read is a required argument.")
    return min(given, MAX)
