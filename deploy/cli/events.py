"""Events of the log, printed for people and pipes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlencode

from deploy.errors import StartError
from deploy.stack.folder import EVENT_STORE, gateway_of
from deploy.stack.settings import Settings
from eventstore.errors import StoreError, does_not
from eventstore.kurrentdb.connection import without_password
from eventstore.kurrentdb.log import EventLog
from eventstore.records import RawRecord, metadata_of
from rayfold import DomainError, Registry
from rayfold.foreign_json import readable
from rayfold.keys import key_text

_AGAIN = 0.5
"""Seconds until a gateway without new events is asked again."""

_FIELDS = ("stream", "revision", "position", "type", "recorded_at", "data", "metadata")


async def print_events(settings: Settings, stream: str | None, *, follow: bool) -> None:
    """Print one JSON object per line, in order.

    Raises:
        StartError: the store is unknown or does not answer.
    """
    uri = settings.eventstore or store_of(settings)
    try:
        registry = Registry.load(settings.domain, tenants=settings.tenants)
    except DomainError as error:
        raise StartError(*error.mistakes) from error
    log, found = EventLog(uri), False
    try:
        async for raw in _records(log, registry.prefixes, stream, follow):
            found = True
            if not _printed(_plain(raw)):
                return
    except (StoreError, ValueError) as error:
        raise StartError(
            f"the event store at {without_password(uri)} {does_not(error)}: {error}"
        ) from error
    finally:
        await log.close()
    if not found:
        sys.stderr.write(f"rayfold: {_nothing(settings, stream)}\n")


def print_events_of(ask: Callable[[str], Any], stream: str | None, *, follow: bool) -> None:
    """Print the same through a gateway, where `ask` requests a path.

    Raises:
        StartError: the gateway does not answer.
    """
    found, asked = False, {} if stream is None else {"stream": stream}
    while True:
        page = ask(f"/operators/events?{urlencode(asked)}")
        for each in page["events"]:
            found = True
            if not _printed({name: each[name] for name in _FIELDS}):
                return
        if page["next"] is not None:
            asked["after"] = page["next"]
        if not page["events"]:
            if not follow:
                break
            time.sleep(_AGAIN)
    if not found:
        what = "of an aggregate" if stream is None else f"of the stream {stream!r}"
        sys.stderr.write(f"rayfold: the log has no event {what}\n")


def _printed(event: dict[str, object]) -> bool:
    """Print an event; return False if the reader has gone."""
    try:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return False
    return True


def _nothing(settings: Settings, stream: str | None) -> str:
    if stream is not None:
        return f"the log has no event of the stream {stream!r}"
    return (
        f"the log has no event of an aggregate of the domain {settings.domain!r}: if another one"
        " runs, name it by RAYFOLD_DOMAIN or in rayfold.toml"
    )


def store_of(settings: Settings) -> str:
    """Return the URI of the store of the stack that runs in the data folder.

    Raises:
        StartError: no stack is running, or it does not tell.
    """
    gateway_of(settings.data)  # raises if nothing is running
    try:
        return (settings.data / EVENT_STORE).read_text().strip()
    except OSError as error:
        raise StartError("give the store's --eventstore") from error


def postgres_of(settings: Settings, registry: Registry) -> str | None:
    """Return the DSN of the stack's Postgres if the domain has personal data, whose keys are there.

    Raises:
        StartError: it is unknown.
    """
    if settings.postgres is not None or not registry.is_personal:
        return settings.postgres
    from deploy.stack.migrating import running_postgres

    return running_postgres(settings.data / "postgres")


async def _records(
    log: EventLog, prefixes: list[str], stream: str | None, follow: bool
) -> AsyncIterator[RawRecord]:
    if follow:
        async for batch in log.subscribe([stream] if stream else prefixes, None):
            for raw in batch.records:
                if stream is None or raw.stream == stream:
                    yield raw
    elif stream:
        async for raw in log.read_stream(stream):
            yield raw
    else:
        async for raw in log.read_all(prefixes):
            yield raw


def _plain(raw: RawRecord) -> dict[str, object]:
    return {
        "stream": raw.stream,
        "revision": raw.revision,
        "position": raw.position,
        "type": raw.event_type,
        "recorded_at": key_text(raw.recorded_at) if raw.recorded_at else None,
        "data": readable(raw.data),
        "metadata": metadata_of(raw),
    }
