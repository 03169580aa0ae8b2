"""A group's settings: from requests, to and from the table that keeps them."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from kurrentdbclient.protos.v1 import persistent_pb2

from eventstore.embedded.persistent.errors import group_failed
from eventstore.embedded.persistent.strategies import STRATEGIES
from eventstore.embedded.protocol.constants import MAX
from eventstore.embedded.storage.filters import EVERYTHING, EventFilter, make_filter

ALL = "$all"

_NAMES = ("DispatchToSingle", "RoundRobin", "Pinned")
_TICKS_PER_MS = 10_000


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """A group's settings as created or updated; times in milliseconds."""

    stream: str
    name: str
    start: int
    """Where the client asked to start: -1 is the end."""
    origin: int
    """First revision or position to deliver if there is no checkpoint."""
    resolve_links: bool
    strategy: str
    message_timeout: int
    max_retries: int
    min_checkpoint_count: int
    max_checkpoint_count: int
    checkpoint_after: int
    max_subscribers: int
    live_buffer: int
    read_batch: int
    history_buffer: int
    extra_statistics: bool
    filter_on_stream: bool | None = None
    """None: no filter."""
    filter_regex: str = ""
    filter_prefixes: tuple[str, ...] = ()

    @property
    def on_all(self) -> bool:
        """Whether the group reads ``$all``."""
        return self.stream == ALL

    @property
    def key(self) -> str:
        """The subscription id that consumers receive."""
        return f"{self.stream}::{self.name}"

    @property
    def checkpoint_stream(self) -> str:
        """The stream with the group's checkpoints."""
        return f"$persistentsubscription-{self.key}-checkpoint"

    @property
    def parked_stream(self) -> str:
        """The stream with the links to parked messages."""
        return f"$persistentsubscription-{self.key}-parked"

    def event_filter(self) -> EventFilter:
        """Return the filter by which the group sees ``$all``."""
        if self.filter_on_stream is None:
            return EVERYTHING
        return make_filter(self.filter_on_stream, self.filter_regex, self.filter_prefixes)

    def position_text(self, value: int) -> str:
        """Return a start or checkpoint as clients parse it."""
        return f"C:{value}/P:{value}" if self.on_all else str(value)

    def to_json(self) -> str:
        """Encode for the table."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "GroupSettings":
        """Decode from the table; a filter's prefixes come back as a tuple."""
        values: dict[str, Any] = json.loads(text)
        values["filter_prefixes"] = tuple(values["filter_prefixes"])
        return GroupSettings(**values)


Wire = persistent_pb2.CreateReq.Settings | persistent_pb2.UpdateReq.Settings


def settings_of(
    wire: Wire, stream: str, name: str, start: int, origin: int, strategy: str
) -> GroupSettings:
    """Return settings in a request, checked as the real server checks them."""
    settings = GroupSettings(
        stream=stream,
        name=name,
        start=start,
        origin=origin,
        resolve_links=wire.resolve_links,
        strategy=strategy,
        message_timeout=_milliseconds(
            wire.WhichOneof("message_timeout"), wire.message_timeout_ms, wire.message_timeout_ticks
        ),
        max_retries=wire.max_retry_count,
        min_checkpoint_count=wire.min_checkpoint_count,
        max_checkpoint_count=wire.max_checkpoint_count,
        checkpoint_after=_milliseconds(
            wire.WhichOneof("checkpoint_after"),
            wire.checkpoint_after_ms,
            wire.checkpoint_after_ticks,
        ),
        max_subscribers=wire.max_subscriber_count,
        live_buffer=wire.live_buffer_size,
        read_batch=wire.read_batch_size,
        history_buffer=wire.history_buffer_size,
        extra_statistics=wire.extra_statistics,
    )
    _validate(settings)
    return settings


def _milliseconds(kind: str | None, ms: int, ticks: int) -> int:
    return ticks // _TICKS_PER_MS if kind is not None and kind.endswith("ticks") else ms


def strategy_of(wire: persistent_pb2.CreateReq.Settings) -> str:
    """Return the strategy's name: the text wins over the older enumeration."""
    return wire.consumer_strategy or enumerated_strategy(wire.named_consumer_strategy)


def enumerated_strategy(number: int) -> str:
    """Return the name of a strategy in the older enumeration; unknown numbers keep their number."""
    return _NAMES[number] if 0 <= number < len(_NAMES) else str(number)


def _validate(settings: GroupSettings) -> None:
    def refuse(reason: str) -> None:
        raise group_failed(settings.stream, settings.name, reason)

    if not settings.name:
        refuse("The group name must not be empty")
    if settings.strategy not in STRATEGIES:
        refuse(f"Consumer strategy {settings.strategy} does not exist.")
    if settings.read_batch >= settings.history_buffer:
        refuse("ReadBatchSize may not be greater than or equal to BufferSize")
    counts = {
        "MessageTimeout": settings.message_timeout,
        "MaxRetryCount": settings.max_retries,
        "MinCheckPointCount": settings.min_checkpoint_count,
        "MaxCheckPointCount": settings.max_checkpoint_count,
        "CheckPointAfter": settings.checkpoint_after,
        "MaxSubscriberCount": settings.max_subscribers,
        "LiveBufferSize": settings.live_buffer,
        "ReadBatchSize": settings.read_batch,
    }
    for label, value in counts.items():
        if value < 0:
            refuse(f"{label} must not be negative")
    if not -1 <= settings.start < MAX:
        refuse("The start position is not valid")
