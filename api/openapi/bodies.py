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
    """One field that does not fit."""

    field: Annotated[str, Meta(description="Its place in the message, with dots")]
    message: str
    type: str


class Problem(Struct):
    """What went wrong (RFC 9457). Some kinds have members of their own beside these."""

    type: Annotated[str, Meta(description="Stable; names the kind of problem")]
    title: str
    status: int
    detail: str
    code: Annotated[str, Meta(description="Of the rule that said no")] | UnsetType = UNSET
    errors: list[FieldError] | UnsetType = UNSET


class Processing(Struct):
    """No store has come as far as the client's Consistency-Token; the write stands."""

    status: Literal["processing"]
    view: str
    position: int
    wanted: int
    detail: str


class RecordedEvent(Struct):
    """An event, as the log has it."""

    type: str
    revision: int
    position: int
    recorded_at: datetime | None
    data: Annotated[
        dict[str, Any] | str, Meta(description="As it was written; text where it is no JSON")
    ]
    metadata: dict[str, Any]


class LoggedEvent(Struct):
    """An event, as operators look at it."""

    type: str
    stream: str
    revision: int
    position: int
    data: Annotated[str, Meta(description="As it was written")]
    metadata: dict[str, Any]


class ListedEvent(RecordedEvent):
    """An event of an aggregate, among those of others."""

    stream: str


class LogPage(Struct):
    """Events in order; none where there are no more for now."""

    events: list[ListedEvent]
    next: Annotated[int | None, Meta(description="What to give as `after` for those that follow")]


class CommandStatus(Struct):
    """What became of a command."""

    command_id: UUID
    status: Literal["scheduled", "cancelled", "processing", "projected", "rejected"]
    behind: Annotated[list[str], Meta(description="Views without it yet")] | UnsetType = UNSET
    stream: str | UnsetType = UNSET
    revision: int | UnsetType = UNSET
    position: int | UnsetType = UNSET
    revisions: (
        Annotated[dict[str, int], Meta(description="Of a decision over several: its streams")]
        | UnsetType
    ) = UNSET
    code: Annotated[str, Meta(description="Why it was rejected")] | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    command: str | UnsetType = UNSET
    not_before: Annotated[datetime, Meta(description="When it is sent")] | UnsetType = UNSET


class Health(Struct):
    """Whether it can serve."""

    status: str
    parts: Annotated[list[str], Meta(description="Of `/health/parts`: all of them")] | UnsetType = (
        UNSET
    )


class Part(Struct):
    """One part of the stack, with what it counts."""

    part: str
    kind: str
    ready: bool


class RebuildStatus(Struct):
    """How far a view's rebuild has come, in the store that is at it."""

    view: str
    state: str
    store: str | None
    stores: Annotated[list[str], Meta(description="One after the other")]
    position: int
    end: Annotated[int, Meta(description="The position that it goes to")]
    events: int
    events_per_second: int
    seconds: Annotated[float, Meta(description="Since it began, over all stores")]
    seconds_left: Annotated[float | None, Meta(description="For this store, as far as one can say")]
    error: Annotated[str, Meta(description="Why it failed")] | UnsetType = UNSET
    would_park: (
        Annotated[bool, Meta(description="Whether for keys that serve, and would be parked")]
        | UnsetType
    ) = UNSET


class StackStatus(Struct):
    """Every part, and what happened to them lately."""

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
        Meta(description="Why it is parked; of an open one, why its command is sent again"),
    ]
    next_timeout: datetime | None


class ProcessList(Struct):
    """Some of the processes that have not ended; `total` counts all of them."""

    processes: list[OpenProcess]
    total: int


class ProcessRecord(Struct):
    """What a process saw, decided, sent or got back, as its stream has it."""

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
    """A process."""

    process: str
    key: str
    status: Literal["open", "parked", "ended"]
    state: dict[str, Any]
    error: str | None
    waiting_commands: list[WaitingCommand]
    timeouts: dict[str, datetime]
    parked: Annotated[list[str], Meta(description="What it broke on, and what waits behind")]
    steps: Annotated[list[ProcessRecord], Meta(description="The last ones")]
    left_out: Annotated[int, Meta(description="How many came before them")]


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
    error: Annotated[str | None, Meta(description="Why it is not sent: nobody can read it")]


class ScheduleList(Struct):
    """What is due next: timeouts of processes, and commands; `total` counts all of them."""

    schedules: list[ScheduledTimeout]
    commands: list[ScheduledCommand]
    total: int


class ParkedKey(Struct):
    """What a receiver has not taken; `key` is empty where all of the stream waits."""

    publication: str
    key: str
    stream: str
    revision: int
    position: int
    error: str
    since: datetime


class Publication(Struct):
    """What others are told."""

    publication: str
    carries: Annotated[list[str], Meta(description="Types of its CloudEvents")]
    target: str | None
    status: Literal["running", "failing", "parked", "not ready", "not configured"]
    position: int | None
    lag: int | None
    published: Annotated[int | None, Meta(description="Since its actor started")]
    error: str | None
    parked_keys: Annotated[int, Meta(description="How many keys are parked")]
    parked: Annotated[list[ParkedKey], Meta(description="A page of them, in the log's order")]
    next_cursor: str | None


class PublicationList(Struct):
    """Every publication of the domain."""

    publications: list[Publication]


class Republished(Struct):
    """What became of what was parked, or of what lay in the range."""

    publication: str
    released: int | UnsetType = UNSET
    parked: int | UnsetType = UNSET
    published: int | UnsetType = UNSET
    failed_keys: int | UnsetType = UNSET


class Difference(Struct):
    """A row of a store that is not what the log says."""

    store: str
    view: str
    key: str
    expected: Annotated[str | None, Meta(description="What the log says")]
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
    parked: Annotated[bool, Meta(description="Whether it still is")]


class ReplayAnswer(Struct):
    """What was replayed."""

    replayed: list[AfterReplay]


class DeleteAnswer(Struct):
    """A stream that was deleted, and where what it gave stays."""

    stream: str
    tombstone: bool
    kept_in: list[str]
    """Views and SQL projections whose rows are made of many streams, or by statements."""


class Forgotten(Struct):
    """A person whose key is destroyed; `settled`: what was decrypted with it is gone as well."""

    subject: str
    forgotten_at: str
    settled: bool


class ForgetAnswer(Struct):
    """Whose keys are destroyed, now or before, of whom there was none, and what is rebuilt."""

    forgotten: list[Forgotten]
    unknown: list[str]
    views: list[str]


class Forgetting(Struct):
    """Of whom something may be left that was decrypted, and what held it up last."""

    left: list[Forgotten]
    error: str


class DiscardAnswer(Struct):
    """What went on without its event."""

    discarded: list[AfterReplay]


class Application(Struct):
    """What one store of a view has made of an event."""

    view: str | None
    store: str | None
    status: Literal["applied", "waiting", "parked", "stopped", "discarded", "broken"]
    part: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    within_seconds: (
        Annotated[float | None, Meta(description="From the event to when it was first seen")]
        | UnsetType
    ) = UNSET
    error: str | UnsetType = UNSET


class CausedEvent(Struct):
    """An event, and what became of it."""

    stream: str
    revision: int
    position: int
    type: str
    recorded_at: datetime | None
    applications: list[Application]
    outgoing: Annotated[
        list[dict[str, Any]], Meta(description="By publications and reactors, with a `status`")
    ]


class CausedStep(Struct):
    """What a process did because of a command, an event of its, or a timeout."""

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
    """A command: its events, and the steps of processes that followed."""

    command_id: str
    command: str | None
    stream: str | None
    status: Literal[
        "accepted", "rejected", "failed", "waiting", "scheduled", "cancelled", "unknown"
    ]
    principal: str | None
    traceparent: str | None
    caused_by: Annotated[str | None, Meta(description="The command that led to it")]
    sent_by: dict[str, Any] | None
    scheduled: dict[str, Any] | None
    depth: Annotated[int, Meta(description="Below the first; each follows what led to it")]
    events: list[CausedEvent]
    steps: list[CausedStep]
    code: Annotated[str, Meta(description="Why it was rejected")] | UnsetType = UNSET
    detail: str | UnsetType = UNSET


class Causality(Struct):
    """What belongs together, as a tree in order."""

    asked: str
    correlation_id: str
    complete: Annotated[bool, Meta(description="Whether all that belongs to it was found")]
    read: Annotated[int, Meta(description="Records of the log")]
    left_out: Annotated[int, Meta(description="Records beyond 500")]
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
    do: Annotated[str, Meta(description="What an operator can do")]


class Explanation(Struct):
    """Why a view lags, the weightiest reason first."""

    name: str
    sentence: Annotated[str, Meta(description="All of it")]
    healthy: bool
    findings: list[Finding]
    parts: Annotated[list[Part], Meta(description="Those that keep it")]


class AuditNote(Struct):
    """What an operator asked for; or how it failed, where `type` is `OperatorFailed`."""

    revision: int
    type: str
    at: str | None
    id: Annotated[str, Meta(description="Of what was asked for")] | UnsetType = UNSET
    principal: str | UnsetType = UNSET
    action: str | UnsetType = UNSET
    arguments: Any | UnsetType = UNSET
    asked: Annotated[str, Meta(description="The id of what has failed")] | UnsetType = UNSET
    status: Annotated[int, Meta(description="The answer's")] | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class AuditNotes(Struct):
    """What operators did, the newest first."""

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
