"""The vocabulary that a domain is written in: pure, without infrastructure."""

from rayfold.aggregate import Aggregate, Placement
from rayfold.composed import ComposedQuery, Composing
from rayfold.errors import (
    DomainError,
    NotFound,
    RayfoldError,
    Refused,
    Rejected,
    UnknownEventType,
    UnreadableEvent,
)
from rayfold.messages import Command, Event, Message
from rayfold.query import PageQuery, Query
from rayfold.receipt import Receipt
from rayfold.recorded import RecordedEvent
from rayfold.registry import Registry
from rayfold.routes import Route
from rayfold.sql import SqlProjection, Statement, sql
from rayfold.sql_query import SqlQuery
from rayfold.upcasting import Upcaster, upcaster
from rayfold.values import Cents, Now, UtcDatetime
from rayfold.view import VersionedRow, View, document, on, starts

__all__ = [
    "Aggregate",
    "Cents",
    "Command",
    "ComposedQuery",
    "Composing",
    "DomainError",
    "Event",
    "Message",
    "NotFound",
    "Now",
    "PageQuery",
    "Placement",
    "Query",
    "RayfoldError",
    "Receipt",
    "RecordedEvent",
    "Refused",
    "Registry",
    "Rejected",
    "Route",
    "SqlProjection",
    "SqlQuery",
    "Statement",
    "UnknownEventType",
    "UnreadableEvent",
    "Upcaster",
    "UtcDatetime",
    "VersionedRow",
    "View",
    "document",
    "on",
    "sql",
    "starts",
    "upcaster",
]
