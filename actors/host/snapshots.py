"""Snapshots: the result of a fold, stored so that a long stream need not be read in full.

They are a cache. A snapshot that cannot be read, or has another fold version, is ignored.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from functools import cache
from itertools import islice
from uuid import uuid4

import msgspec
from pydantic import ValidationError

from actors.host.entity import Entity
from actors.host.recent_commands import ALWAYS_REMEMBERED, Seen
from eventstore.one_record import last_record
from eventstore.port import ANY, InvalidAppend, Log, StreamAppend
from eventstore.records import NewRecord
from rayfold import Message
from rayfold.aggregate import AggregateType
from rayfold.personal import marked, plain

log = logging.getLogger(__name__)

WORTH = 64
"""Number of events; folding fewer costs less than looking for a snapshot."""

PREFIX = "snapshot-"

_TYPE = "Snapshot"


class _Command(msgspec.Struct, array_like=True):
    command_id: str
    fingerprint: str
    revision: int
    position: int
    exact: bool
    at: float


class _Snapshot(msgspec.Struct, rename="camel"):
    fold: str
    revision: int
    position: int
    state: msgspec.Raw
    recent: list[_Command]


_decode = msgspec.json.Decoder(_Snapshot).decode
_encode = msgspec.json.Encoder().encode


def snapshot_stream(stream: str) -> str:
    """Return the name of the stream that holds an aggregate's snapshots."""
    return f"{PREFIX}{stream}"


async def save(event_log: Log, entity: Entity) -> None:
    """Write a snapshot of the entity as it is now.

    Nothing is written if the state would read back differently, cannot be JSON, or is rejected by
    the store: the aggregate is then folded from its events, and others are not affected.

    Raises:
        StoreUnavailable: the snapshot may not have been written.
    """
    entity.snapshot_revision = entity.revision
    if entity.aggregate.has_data_of_others():
        return  # reading it back would need the keys of all of them
    about: dict[str, object] = {"stream": entity.stream, "revision": entity.revision}
    try:
        state = entity.state.__pydantic_serializer__.to_json(entity.state)
        is_same = bool(_state(entity.aggregate, state) == entity.state)
    except ValidationError:
        is_same = False
    except (Exception, SystemExit) as error:  # the domain's serializer, validator, `__eq__`
        log.error(
            "a snapshot was not written: serializing its state failed", exc_info=error, extra=about
        )
        return
    if not is_same:
        log.error(
            "a snapshot was not written: its state differs when read back from JSON", extra=about
        )
        return
    recent = entity.recent.latest(ALWAYS_REMEMBERED)
    if entity.aggregate.has_personal_data():
        # The whole state, as it is unknown which part of it came from which event.
        state = marked(state, entity.stream.partition("-")[2])
    data = _encode(
        _Snapshot(
            _fold_id(entity.aggregate),
            entity.revision,
            entity.position,
            msgspec.Raw(state),
            [_Command(command_id, *seen) for command_id, seen in recent],
        )
    )
    record = NewRecord(_TYPE, data, {}, str(uuid4()))
    [answer] = await event_log.append([StreamAppend(snapshot_stream(entity.stream), ANY, [record])])
    if isinstance(answer, InvalidAppend):
        about["error"] = answer.reason
        log.error("a snapshot was not written: the store refuses it for good", extra=about)


def _state(aggregate: AggregateType, data: bytes) -> Message:
    if aggregate.has_personal_data():
        data = plain(data)
    # Computed fields are in the JSON as well, but are not fields of the model.
    return aggregate.state_type.model_validate_json(data, extra="ignore")


async def restore(
    log: Log, aggregate: AggregateType, stream: str, *, not_before: int
) -> Entity | None:
    """Return the entity as of its latest snapshot; None if none is usable.

    `not_before` is the first revision of the stream: an earlier snapshot is from before the stream
    was deleted.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    raw = await last_record(log, snapshot_stream(stream))
    if raw is None:
        return None
    try:
        snapshot = _decode(raw.data)
        if snapshot.fold != _fold_id(aggregate) or snapshot.revision < not_before:
            return None
        state = _state(aggregate, bytes(snapshot.state))
    except (Exception, SystemExit):  # of another client, or an error in the domain's validator
        return None
    entity = Entity(aggregate, stream)
    entity.state = state
    entity.revision = entity.snapshot_revision = snapshot.revision
    entity.position = snapshot.position
    for command in islice(snapshot.recent, ALWAYS_REMEMBERED):
        entity.recent.add(
            command.command_id,
            Seen(
                command.fingerprint,
                command.revision,
                command.position,
                command.exact,
                command.at,
            ),
        )
    return entity


@cache
def _fold_id(aggregate: AggregateType) -> str:
    """Return a text that changes whenever folding the same events may give another state."""
    meaning = aggregate.fold_fingerprint().encode()
    digest = hashlib.blake2b(meaning, digest_size=9).digest()
    return f"{aggregate.fold_version}.{base64.urlsafe_b64encode(digest).decode()}"
