"""What `rayfold` exports: the vocabulary that a domain is written in."""

from rayfold.aggregate import Aggregate, Placement, Storage
from rayfold.answer import Answer
from rayfold.column_hints import AsJson, RenamedFrom, RowsOf
from rayfold.composed import ComposedQuery, ComposedQueryDefinition, Composing
from rayfold.decision import Decision, DecisionDefinition, Read, ReadMany
from rayfold.errors import (
    DomainError,
    EndlessProcess,
    Forbidden,
    NotFound,
    RayfoldError,
    Refused,
    Rejected,
    UnknownEventType,
    UnreadableEvent,
)
from rayfold.failure import OnPoison
from rayfold.folds import on, starts
from rayfold.integration_event import IntegrationEvent, IntegrationEventDefinition
from rayfold.keys import key_text
from rayfold.messages import Command, CommandDefinition, Event, EventDefinition, Message
from rayfold.middleware import (
    Middleware,
    MiddlewareDefinition,
    ProceedCommand,
    ProceedQuery,
)
from rayfold.middleware_context import CommandContext, Origin, QueryContext, Reading
from rayfold.personal import FORGOTTEN, Personal, PersonalData
from rayfold.process import (
    Aborted,
    CommandRejected,
    ProcessDefinition,
    ProcessManager,
    TimedOut,
    on_abort,
    on_rejected,
    on_timeout,
)
from rayfold.publication import Publication, PublicationDefinition
from rayfold.query import PageQuery, Query, QueryDefinition, ViewQueryDefinition, view_query_of
from rayfold.reactor import Attempt, Reactor, ReactorDefinition
from rayfold.receipt import Receipt
from rayfold.recorded import RecordedEvent
from rayfold.registry import Registry
from rayfold.routes import Route
from rayfold.sql_projection import SqlProjection, Statement, sql
from rayfold.sql_query import SqlQuery, SqlQueryDefinition
from rayfold.state_stored import StateStored
from rayfold.steps import Complete, Publish, Schedule, Send, Step, Unschedule
from rayfold.upcasting import Upcaster, upcaster
from rayfold.values import NOW, Cents, Now, UtcDatetime
from rayfold.view import RowChange, VersionedRow, View, ViewDefinition, document

__all__ = [
    "FORGOTTEN",
    "NOW",
    "Aborted",
    "Aggregate",
    "Answer",
    "AsJson",
    "Attempt",
    "Cents",
    "Command",
    "CommandContext",
    "CommandDefinition",
    "CommandRejected",
    "Complete",
    "ComposedQuery",
    "ComposedQueryDefinition",
    "Composing",
    "Decision",
    "DecisionDefinition",
    "DomainError",
    "EndlessProcess",
    "Event",
    "EventDefinition",
    "Forbidden",
    "IntegrationEvent",
    "IntegrationEventDefinition",
    "Message",
    "Middleware",
    "MiddlewareDefinition",
    "NotFound",
    "Now",
    "OnPoison",
    "Origin",
    "PageQuery",
    "Personal",
    "PersonalData",
    "Placement",
    "ProceedCommand",
    "ProceedQuery",
    "ProcessDefinition",
    "ProcessManager",
    "Publication",
    "PublicationDefinition",
    "Publish",
    "Query",
    "QueryContext",
    "QueryDefinition",
    "RayfoldError",
    "Reactor",
    "ReactorDefinition",
    "Read",
    "ReadMany",
    "Reading",
    "Receipt",
    "RecordedEvent",
    "Refused",
    "Registry",
    "Rejected",
    "RenamedFrom",
    "Route",
    "RowChange",
    "RowsOf",
    "Schedule",
    "Send",
    "SqlProjection",
    "SqlQuery",
    "SqlQueryDefinition",
    "StateStored",
    "Statement",
    "Step",
    "Storage",
    "TimedOut",
    "UnknownEventType",
    "UnreadableEvent",
    "Unschedule",
    "Upcaster",
    "UtcDatetime",
    "VersionedRow",
    "View",
    "ViewDefinition",
    "ViewQueryDefinition",
    "document",
    "key_text",
    "on",
    "on_abort",
    "on_rejected",
    "on_timeout",
    "sql",
    "starts",
    "upcaster",
    "view_query_of",
]
