"""Converts records of the log to CloudEvents, whose ids derive from the records.

A repeated event has the same id and the same bytes, whichever process sends it.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from uuid import UUID, uuid5

import msgspec
from cloudevents.core.bindings.http import to_structured_event
from cloudevents.core.v1.event import CloudEvent

from eventstore.records import Metadata, RawRecord, recorded
from projections.publications.errors import Unpublishable
from rayfold import IntegrationEvent, PublicationDefinition, Registry
from rayfold.personal import is_marked, plain
from rayfold.tenants import within

_IDS = UUID("7b1d6a52-0f0e-5c55-a2c3-6f1d9b1e4c07")

PROCESSES = "process-"
"""The prefix of process streams: see docs/reference/log.md."""

PROCESS_STEPS = ("ProcessSawEvent", "ProcessTimedOut", "ProcessCommandRejected", "ProcessAborted")
"""The types of records with a process's decisions."""


class Outgoing(NamedTuple):
    """A CloudEvent to be delivered. `position` is that of the record it comes from.

    `traceparent` is its trace, if any: it is not in the body, which is the same each time. `stream`
    and `revision` are the record's, `read` is when it was read, by the monotonic clock; `personal`
    says whether the record may have personal data. Among the record's events, `ordinal` is its
    number, which is part of its id, and `nth` its number among those of its name and key.
    """

    id: str
    name: str
    key: str
    position: int
    content_type: str
    body: bytes
    traceparent: str = ""
    stream: str = ""
    revision: int = -1
    read: float = math.inf
    personal: bool = False
    ordinal: int = 0
    nth: int = 0


class _Step(msgspec.Struct):
    decided: list[msgspec.Raw] = []


class _Decided(msgspec.Struct):
    type: str = ""
    event: str = ""
    version: int = 1
    data: msgspec.Raw = msgspec.Raw(b"{}")


_step = msgspec.json.Decoder(_Step).decode
_decided = msgspec.json.Decoder(_Decided).decode


class Derivation:
    """Derives the events of one publication from the log."""

    def __init__(self, registry: Registry, definition: PublicationDefinition, source: str) -> None:
        self._registry = registry
        self._definition = definition
        self._source = source
        self._carried = {each.__rayfold__.name: each for each in definition.carries}
        with_processes = bool(registry.processes)
        self.prefixes = [*registry.prefixes, *([PROCESSES] if with_processes else [])]
        """The prefixes of the streams that it follows."""
        self.event_types = [
            *(registry.stored_as(definition.handlers) if definition.handlers else ()),
            *(PROCESS_STEPS if with_processes else ()),
        ]
        """The types of records that may have events."""

    def outgoing(self, raw: RawRecord, read: float | None = None) -> list[Outgoing]:
        """Return the events of a record, in order; `read`: see there, by default now.

        Raises:
            Unpublishable: the domain's code, old or new, fails on it.
        """
        read = time.monotonic() if read is None else read
        with _of(raw):
            return [
                self._cloud_event(raw, told, ordinal, nth, read)
                for ordinal, (nth, told) in enumerate(self._numbered(raw))
            ]

    def by_now(self, raw: RawRecord, before: Outgoing) -> Outgoing | None:
        """Derive an event, which was `before`, again from its record; None if it no longer exists.

        It keeps its id, which has its number: if a person was forgotten since, a handler may
        produce fewer events, so that the others have other numbers.

        Raises:
            Unpublishable: see `outgoing`.
        """
        sought = before.name, before.key, before.nth
        with _of(raw):
            for nth, told in self._numbered(raw):
                if (type(told).__rayfold__.name, self._key(raw, told), nth) == sought:
                    return self._cloud_event(raw, told, before.ordinal, nth, time.monotonic())
        return None

    def _numbered(self, raw: RawRecord) -> Iterator[tuple[int, IntegrationEvent]]:
        """Yield a record's events, each with the number of earlier ones of its name and key."""
        told = self._published if raw.stream.startswith(PROCESSES) else self._derived
        seen = Counter[tuple[str, str]]()
        for each in told(raw):
            kind = type(each).__rayfold__.name, self._key(raw, each)
            yield seen[kind], each
            seen[kind] += 1

    def _key(self, raw: RawRecord, told: IntegrationEvent) -> str:
        return within(self._registry.tenant_of(raw.stream), self._definition.key_of(told))

    def _derived(self, raw: RawRecord) -> Sequence[IntegrationEvent]:
        return [
            told
            for each in recorded(self._registry, raw)
            for told in self._definition.derive(each.event)
        ]

    def _published(self, raw: RawRecord) -> Sequence[IntegrationEvent]:
        if b'"publish"' not in raw.data:
            return []
        decided = [_decided(each) for each in _step(raw.data).decided]
        return [
            carried.model_validate_json(plain(bytes(each.data)), extra="ignore")
            for each in decided
            if each.type == "publish" and (carried := self._carried.get(each.event))
        ]

    def _cloud_event(
        self, raw: RawRecord, told: IntegrationEvent, ordinal: int, nth: int, read: float
    ) -> Outgoing:
        definition, subject = type(told).__rayfold__, self._definition.key_of(told)
        tenant = self._registry.tenant_of(raw.stream)
        record = f"{raw.stream}@{raw.revision}"
        place = f"{self._definition.name}\n{record}\n{ordinal}\n{definition.name}"
        metadata = Metadata(raw.metadata)
        attributes = {
            "specversion": "1.0",
            "id": str(uuid5(_IDS, place)),
            "source": self._source,
            "type": definition.name,
            "subject": subject,
            "datacontenttype": "application/json",
            "dataversion": str(definition.version),
            # As text, a later one is greater: the CloudEvents extension "sequence".
            "sequence": f"{raw.position:020}",
        }
        if raw.recorded_at is not None:
            attributes["time"] = raw.recorded_at  # type: ignore[assignment]
        if tenant:
            attributes["tenant"] = tenant
        for attribute, key_in_metadata in (
            ("traceparent", "traceparent"),
            ("correlationid", "$correlationId"),
        ):
            if value := metadata.get(key_in_metadata):
                attributes[attribute] = value
        # `encode` refuses values that would not read back; its result is a JSON object.
        data = json.loads(plain(definition.encode(told)))
        message = to_structured_event(CloudEvent(attributes, data))
        return Outgoing(
            attributes["id"],
            definition.name,
            within(tenant, subject),
            raw.position,
            message.headers["content-type"],
            bytes(message.body),
            metadata.get("traceparent", ""),
            raw.stream,
            raw.revision,
            read,
            is_marked(raw.data),
            ordinal,
            nth,
        )


@contextmanager
def _of(raw: RawRecord) -> Iterator[None]:
    """Add the record to errors that are raised here."""
    try:
        yield
    except (Exception, SystemExit) as error:  # the domain's code, or its result
        place = f"{raw.event_type} at revision {raw.revision} of {raw.stream}"
        raise Unpublishable(f"{place}: {type(error).__name__}: {error}") from error
