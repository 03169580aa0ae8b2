"""What the gateway itself answers with, as far as clients may rely on it."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType


class Store(Enum):
    """Where a view is kept; packages may bring more."""

    MEMORY = "memory"
    POSTGRES = "postgres"
    REDIS = "redis"


class FieldError(Struct):
    """One field that is not valid."""

    field: Annotated[
        str, Meta(description="The field's path in the message, with dots between names")
    ]
    message: str
    type: str


class Problem(Struct):
    """What went wrong (RFC 9457). Some kinds of problems have further members."""

    type: Annotated[str, Meta(description="A stable URI that names the kind of problem")]
    title: str
    status: int
    detail: str
    code: (
        Annotated[str, Meta(description="The code of the rule that rejected the command")]
        | UnsetType
    ) = UNSET
    errors: list[FieldError] | UnsetType = UNSET


class Processing(Struct):
    """No store has reached the client's Consistency-Token yet; the write itself is durable."""

    status: Literal["processing"]
    view: str
    position: int
    wanted: int
    detail: str


class RecordedEvent(Struct):
    """An event as it was recorded in the log."""

    type: str
    revision: int
    position: int
    recorded_at: datetime | None
    data: Annotated[
        dict[str, Any] | str,
        Meta(description="The event as it was written; a text if it is not JSON"),
    ]
    metadata: dict[str, Any]


class LoggedEvent(Struct):
    """An event with its stream, as operators see it."""

    type: str
    stream: str
    revision: int
    position: int
    data: Annotated[str, Meta(description="The event as it was written")]
    metadata: dict[str, Any]


class ListedEvent(RecordedEvent):
    """An event in a list of events of several aggregates."""

    stream: str


class LogPage(Struct):
    """Events in order; the list is empty if there are no further ones yet."""

    events: list[ListedEvent]
    next: Annotated[int | None, Meta(description="The `after` of the next page")]


class CommandStatus(Struct):
    """What became of a command."""

    command_id: UUID
    status: Literal["scheduled", "cancelled", "processing", "projected", "rejected"]
    behind: (
        Annotated[list[str], Meta(description="Views that do not show the command's events yet")]
        | UnsetType
    ) = UNSET
    stream: str | UnsetType = UNSET
    revision: int | UnsetType = UNSET
    position: int | UnsetType = UNSET
    revisions: (
        Annotated[
            dict[str, int],
            Meta(
                description="Of a decision over several aggregates: the new revision of each stream"
            ),
        ]
        | UnsetType
    ) = UNSET
    code: Annotated[str, Meta(description="Why it was rejected")] | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    command: str | UnsetType = UNSET
    not_before: Annotated[datetime, Meta(description="When the command is sent")] | UnsetType = (
        UNSET
    )


class Health(Struct):
    """Whether it can serve."""

    status: str
    parts: (
        Annotated[
            list[str],
            Meta(description="The parts that are not ready; `/health/parts` lists all parts"),
        ]
        | UnsetType
    ) = UNSET


class Part(Struct):
    """One part of the stack, with what it counts."""

    part: str
    kind: str
    ready: bool


class RebuildStatus(Struct):
    """The progress of a view's rebuild, in the store that is being rebuilt."""

    view: str
    state: str
    store: str | None
    stores: Annotated[
        list[str], Meta(description="The stores that are rebuilt, one after the other")
    ]
    position: int
    end: Annotated[int, Meta(description="The position up to which the log is folded")]
    events: int
    events_per_second: int
    seconds: Annotated[float, Meta(description="Seconds since the rebuild began, over all stores")]
    seconds_left: Annotated[
        float | None, Meta(description="An estimate for this store, in seconds")
    ]
    error: Annotated[str, Meta(description="Why the rebuild failed")] | UnsetType = UNSET
    would_park: (
        Annotated[
            bool,
            Meta(description="Whether it failed because keys that are served now would be parked"),
        ]
        | UnsetType
    ) = UNSET


class StackStatus(Struct):
    """Every part, and recent events of the stack: scaling, rebuilds, errors."""

    parts: list[Part]
    scaling: list[dict[str, Any]]
    rebuilds: list[RebuildStatus]
    errors: list[dict[str, Any]]


class OpenProcess(Struct):
    """A process that has not ended."""

    process: str
    key: str
    status: Literal["open", "parked"]
    error: Annotated[
        str | None,
        Meta(description="Why the process is parked; if it is open, why its command is sent again"),
    ]
    next_timeout: datetime | None


class ProcessList(Struct):
    """Some of the processes that have not ended; `total` counts all of them."""

    processes: list[OpenProcess]
    total: int


class ProcessRecord(Struct):
    """A record of a process's stream: what it saw, decided, sent or was answered."""

    type: str
    revision: int
    position: int
    recorded_at: datetime | None
    data: dict[str, Any]


class WaitingCommand(Struct):
    """A command that has no answer yet."""

    command_id: UUID
    command: str


class Process(Struct):
    """A process, whether it has ended or not."""

    process: str
    key: str
    status: Literal["open", "parked", "ended"]
    state: dict[str, Any]
    error: str | None
    waiting_commands: list[WaitingCommand]
    timeouts: dict[str, datetime]
    parked: Annotated[
        list[str],
        Meta(description="The record that it is parked on, and those that wait behind it"),
    ]
    steps: Annotated[list[ProcessRecord], Meta(description="The last steps")]
    left_out: Annotated[int, Meta(description="How many earlier steps are left out")]


class ScheduledTimeout(Struct):
    """A timeout that a process has scheduled."""

    due: datetime
    process: str
    key: str
    timeout: str


class ScheduledCommand(Struct):
    """A command that is sent later."""

    due: datetime
    command_id: UUID
    command: str
    stream: str
    principal: str
    error: Annotated[
        str | None, Meta(description="Why the command cannot be sent: no code can read it")
    ]


class ScheduleList(Struct):
    """What is due next: timeouts of processes, and commands; `total` counts all of them."""

    schedules: list[ScheduledTimeout]
    commands: list[ScheduledCommand]
    total: int


class ParkedKey(Struct):
    """A key whose events a receiver did not accept; `key` is empty if the whole stream waits."""

    publication: str
    key: str
    stream: str
    revision: int
    position: int
    error: str
    since: datetime


class Publication(Struct):
    """A publication, and how far it has come."""

    publication: str
    carries: Annotated[list[str], Meta(description="The types of its CloudEvents")]
    target: str | None
    status: Literal["running", "failing", "parked", "not ready", "not configured"]
    position: int | None
    lag: int | None
    published: Annotated[
        int | None, Meta(description="Events published since the publication's actor started")
    ]
    error: str | None
    parked_keys: Annotated[int, Meta(description="The number of parked keys")]
    parked: Annotated[
        list[ParkedKey], Meta(description="A page of the parked keys, in the log's order")
    ]
    next_cursor: str | None


class PublicationList(Struct):
    """Every publication of the domain."""

    publications: list[Publication]


class Republished(Struct):
    """The result of publishing parked events, or a range of events, again."""

    publication: str
    released: int | UnsetType = UNSET
    parked: int | UnsetType = UNSET
    published: int | UnsetType = UNSET
    failed_keys: int | UnsetType = UNSET


class Difference(Struct):
    """A row that differs between a store and a fresh fold of the log."""

    store: str
    view: str
    key: str
    expected: Annotated[str | None, Meta(description="The row that the log leads to")]
    found: str | None


class Verification(Struct):
    """The differences between every view in every store and a fresh fold of the log."""

    differences: list[Difference]


class RebuildList(Struct):
    """The last rebuild of each view."""

    rebuilds: list[RebuildStatus]


class ParkedEvent(Struct):
    """A key that is parked, in one store."""

    store: str
    view: str
    key: str


class ParkedEvents(Struct):
    """Keys that are parked, in the log's order."""

    parked: list[ParkedEvent]
    next_cursor: str | None


class AfterReplay(Struct):
    """A parked key after it was replayed, or went on without its event."""

    store: str
    view: str
    key: str
    parked: Annotated[bool, Meta(description="Whether the key is still parked")]


class ReplayAnswer(Struct):
    """What was replayed."""

    replayed: list[AfterReplay]


class DeleteAnswer(Struct):
    """A stream that was deleted, and the views that keep data of it."""

    stream: str
    tombstone: bool
    kept_in: list[str]
    """Views and SQL projections whose rows are made of many streams, or by statements."""


class Forgotten(Struct):
    """A person whose key is destroyed; `settled`: data decrypted with it is gone as well."""

    subject: str
    forgotten_at: str
    settled: bool


class ForgetAnswer(Struct):
    """The persons whose keys are destroyed, those who had none, and the views that are rebuilt."""

    forgotten: list[Forgotten]
    unknown: list[str]
    views: list[str]


class Forgetting(Struct):
    """The persons of whom decrypted data may be left, and what delayed its removal last."""

    left: list[Forgotten]
    error: str


class DiscardAnswer(Struct):
    """The keys that go on without the discarded event."""

    discarded: list[AfterReplay]


class Application(Struct):
    """What one store of a view did with an event."""

    view: str | None
    store: str | None
    status: Literal["applied", "waiting", "parked", "stopped", "discarded", "broken"]
    part: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    within_seconds: (
        Annotated[
            float | None, Meta(description="Seconds from the event until the store had applied it")
        ]
        | UnsetType
    ) = UNSET
    error: str | UnsetType = UNSET


class CausedEvent(Struct):
    """An event, and what views, publications and reactors did with it."""

    stream: str
    revision: int
    position: int
    type: str
    recorded_at: datetime | None
    applications: list[Application]
    outgoing: Annotated[
        list[dict[str, Any]],
        Meta(description="What publications and reactors did with the event, each with a `status`"),
    ]


class CausedStep(Struct):
    """A step that a process took because of a command, an event or a timeout."""

    process: str
    key: str
    stream: str
    revision: int
    position: int
    type: str
    recorded_at: datetime | None
    because: dict[str, Any]
    sends: Annotated[list[str], Meta(description="Command ids")]
    outgoing: list[dict[str, Any]]
    error: str | UnsetType = UNSET


class CausedCommand(Struct):
    """A command, its events, and the steps of processes that followed."""

    command_id: str
    command: str | None
    stream: str | None
    status: Literal[
        "accepted", "rejected", "failed", "waiting", "scheduled", "cancelled", "unknown"
    ]
    principal: str | None
    traceparent: str | None
    caused_by: Annotated[str | None, Meta(description="The id of the command that caused this one")]
    sent_by: dict[str, Any] | None
    scheduled: dict[str, Any] | None
    depth: Annotated[
        int, Meta(description="The command's depth in the tree: 0 for the first command")
    ]
    events: list[CausedEvent]
    steps: list[CausedStep]
    code: Annotated[str, Meta(description="Why it was rejected")] | UnsetType = UNSET
    detail: str | UnsetType = UNSET


class Causality(Struct):
    """Commands that belong together: a tree, each command after the one that caused it."""

    asked: str
    correlation_id: str
    complete: Annotated[
        bool,
        Meta(description="Whether the records that were read contain all that belongs together"),
    ]
    read: Annotated[int, Meta(description="The number of records of the log that were read")]
    left_out: Annotated[int, Meta(description="The number of records left out, beyond 500")]
    commands: list[CausedCommand]


class Finding(Struct):
    """One reason why something lags."""

    cause: Annotated[
        str,
        Meta(
            description="store-down, ray-down, postgres-down, controller-down, stopped, part-down,"
            " failing, starting, parked, rebuilding, rebuild-failed, slow, catching-up, nowhere"
        ),
    ]
    part: str
    since: datetime | None
    sentence: str
    do: Annotated[str, Meta(description="What an operator can do about it")]


class Explanation(Struct):
    """Why a view lags, with the most important reason first."""

    name: str
    sentence: Annotated[str, Meta(description="The whole explanation in one sentence")]
    healthy: bool
    findings: list[Finding]
    parts: Annotated[list[Part], Meta(description="The parts that keep the view")]


class AuditNote(Struct):
    """What an operator requested; or, if `type` is `OperatorFailed`, how that failed."""

    revision: int
    type: str
    at: str | None
    id: Annotated[str, Meta(description="The id of the request")] | UnsetType = UNSET
    principal: str | UnsetType = UNSET
    action: str | UnsetType = UNSET
    arguments: Any | UnsetType = UNSET
    asked: Annotated[str, Meta(description="The id of the request that failed")] | UnsetType = UNSET
    status: Annotated[int, Meta(description="The status of the answer")] | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class AuditNotes(Struct):
    """What operators did, newest first."""

    audit: list[AuditNote]


BODIES: tuple[type[Struct | Enum], ...] = (
    Store,
    Problem,
    Processing,
    RecordedEvent,
    LoggedEvent,
    ListedEvent,
    LogPage,
    Causality,
    Explanation,
    Process,
    ProcessList,
    ScheduleList,
    PublicationList,
    Republished,
    CommandStatus,
    Health,
    StackStatus,
    Verification,
    RebuildStatus,
    RebuildList,
    ParkedEvents,
    ReplayAnswer,
    DeleteAnswer,
    ForgetAnswer,
    Forgetting,
    DiscardAnswer,
    AuditNotes,
)
