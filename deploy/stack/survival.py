"""Checking that a new domain can read the log's events, before anything is changed.

There are two sources. Event types that the stack has run with are recorded in Postgres, with their
fields; and the log itself is read from its beginning, for as long as the operator allows.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from deploy.errors import StartError
from eventstore.port import Log
from eventstore.records import RawRecord, recorded
from rayfold import Registry, UnknownEventType, UnreadableEvent

if TYPE_CHECKING:
    from rayfold.runtime.postgres import Connection

READ = 10.0
"""Seconds for which the log is read."""

_WIDER = {"number": "integer"}
"""What else a type reads."""

_TABLE = """
CREATE TABLE IF NOT EXISTS rayfold_event_type (
    name text, version integer, fields jsonb NOT NULL, PRIMARY KEY (name, version)
)
"""
_NOTE = "INSERT INTO rayfold_event_type VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"

_CATEGORIES = """
CREATE TABLE IF NOT EXISTS rayfold_event_category (
    event text, category text, PRIMARY KEY (event, category)
)
"""
_NOTE_CATEGORY = "INSERT INTO rayfold_event_category VALUES ($1, $2) ON CONFLICT DO NOTHING"


async def note_event_types(connection: Connection, registry: Registry) -> None:
    """Record which event types may be on the log from now on."""
    await connection.execute(_TABLE)
    for name, each in sorted(registry.events.items()):
        fields = _fields(each.model)
        await connection.execute(_NOTE, name, each.version, json.dumps(fields))
    await connection.execute(_CATEGORIES)
    for event, categories in registry.categories_of.items():
        for category in categories:
            await connection.execute(_NOTE_CATEGORY, event, category)


async def check_categories(connection: Connection, log: Log, registry: Registry) -> None:
    """Compare the categories of events with those recorded.

    Raises:
        StartError: streams of a category are on the log whose events are another's today: nobody
            would see them, and a view in memory other ones than in Postgres.
    """
    if await connection.fetchval("SELECT to_regclass('rayfold_event_category')") is None:
        return
    today = registry.categories_of
    lost: dict[str, str] = {}
    for row in await connection.fetch("SELECT * FROM rayfold_event_category ORDER BY event"):
        event, before = row["event"], row["category"]
        if before in lost or before in today.get(event, registry.aggregates):
            continue
        async for raw in log.read_all([f"{before}-"], limit=1):
            for name in [event] if event in today else _names(registry, raw):
                for now in sorted(today.get(name, ())):
                    lost[before] = (
                        f"the log has {raw.stream!r}, and events {name!r} are of the category"
                        f" {now!r} now: give their aggregate the category {before!r} back"
                    )
    if lost:
        raise StartError(*lost.values())


def _names(registry: Registry, raw: RawRecord) -> list[str]:
    """Return what a record is today, after upcasters; nothing if it cannot be read."""
    try:
        return [type(each.event).__rayfold__.name for each in recorded(registry, raw)]
    except (UnknownEventType, UnreadableEvent):
        return []


async def check_event_types(connection: Connection, registry: Registry) -> None:
    """Compare a domain with the recorded event types.

    Raises:
        StartError: it could not read an event that may be on the log.
    """
    if await connection.fetchval("SELECT to_regclass('rayfold_event_type')") is None:
        return
    rows = await connection.fetch("SELECT * FROM rayfold_event_type ORDER BY name, version")
    lost: dict[tuple[str, int], str] = {}
    for row in rows:
        name, version = row["name"], row["version"]
        if reason := _lost(registry, name, version, json.loads(row["fields"])):
            now = registry.events.get(name)
            # For versions above its own, the last one gives the advice.
            lost[name, version if now is None else min(version, now.version + 1)] = reason
    if lost:
        raise StartError(*lost.values())


async def check_log(log: Log, registry: Registry) -> int:
    """Read the log with a domain; return how many records were read.

    Raises:
        StartError: it cannot read one of them.
    """
    read = 0
    try:
        async with asyncio.timeout(READ), aclosing(log.read_all(registry.prefixes)) as records:
            async for raw in records:
                try:
                    recorded(registry, raw)
                except (UnknownEventType, UnreadableEvent) as error:
                    raise StartError(f"the new domain cannot read the log: {error}") from error
                read += 1
    except TimeoutError:
        pass
    return read


def _lost(registry: Registry, name: str, version: int, before: dict[str, Any]) -> str | None:
    """Return why events of a type could no longer be read."""
    if registry.has_upcaster(name, version):
        return None  # reading the log will show that
    if (now := registry.events.get(name)) is None:
        return (
            f"the new domain has no event {name!r}, which may be on the log:"
            " keep it, or write an upcaster"
        )
    if version > now.version:
        return (
            f"events {name!r} of version {version} may be on the log, and the new domain has"
            f" version {now.version}: keep {version}, or raise it to {version + 1} and write an"
            f" upcaster from {version}"
        )
    for field, (kind, required) in _fields(now.model).items():
        if field not in before:
            if required:
                return (
                    f"events {name!r} on the log have no {field!r}: give it a default, or write"
                    f" an upcaster from version {version}"
                )
        elif before[field][0] not in (kind, _WIDER.get(str(kind))):
            return (
                f"{field!r} of {name!r} was another type on the log:"
                f" write an upcaster from version {version}"
            )
    return None


def _fields(model: type[BaseModel]) -> dict[str, tuple[Any, bool]]:
    """Return what each field has in JSON, and whether it is required."""
    written = model.model_json_schema(mode="serialization")
    required = model.model_json_schema(mode="validation").get("required", ())
    return {
        field: (_kind(each, written.get("$defs", {})), field in required)
        for field, each in written.get("properties", {}).items()
    }


def _kind(each: dict[str, Any], known: dict[str, Any]) -> Any:
    """Return the JSON types of a field, as they are in old events."""
    if "$ref" in each:
        return _kind(known[each["$ref"].rpartition("/")[2]], known)
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in each:
            kinds = [_kind(one, known) for one in each[choice]]
            return sorted({json.dumps(kind) for kind in kinds})
    return each.get("type", "any")
