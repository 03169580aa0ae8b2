"""What groups write: configuration, checkpoints, parked messages, and the end of a replay."""

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from eventstore.embedded.persistent.settings import GroupSettings
from eventstore.embedded.protocol.constants import ANY, LINK_TYPE, MAX
from eventstore.embedded.storage.event import Proposed
from eventstore.embedded.storage.operations import Append, stage_metadata
from eventstore.embedded.storage.write_transaction import WriteTransaction

CONFIG_STREAM = "$persistentSubscriptionConfig"
CHECKPOINT_TYPE = "$SubscriptionCheckpoint"


def _now() -> str:
    return datetime.now(UTC).isoformat()


@dataclass(frozen=True, slots=True)
class SaveGroup:
    """Create or replace a group's settings. The table is authoritative; the event moves positions
    and shows operators the change, as on a real node."""

    settings: GroupSettings

    def apply(self, transaction: WriteTransaction) -> None:
        """Write one row, one event."""
        settings = self.settings
        transaction.execute(
            "INSERT OR REPLACE INTO groups VALUES (?, ?, ?)",
            (settings.stream, settings.name, settings.to_json()),
        )
        _stage_config(transaction)


@dataclass(frozen=True, slots=True)
class RemoveGroup:
    """Delete a group with its checkpoint and parked messages: a new one starts clean."""

    settings: GroupSettings

    def apply(self, transaction: WriteTransaction) -> None:
        """Write the row, two soft deletes, one event."""
        settings = self.settings
        transaction.execute(
            "DELETE FROM groups WHERE stream = ? AND name = ?", (settings.stream, settings.name)
        )
        for name in (settings.checkpoint_stream, settings.parked_stream):
            state = transaction.stream(name)
            if state.last >= 0 and not state.tombstoned and not state.soft_deleted:
                stage_metadata(transaction, state, b'{"$tb":%d}' % MAX)
        _stage_config(transaction)


def _stage_config(transaction: WriteTransaction) -> None:
    rows = transaction.query("SELECT settings FROM groups")
    entries = [json.loads(text) for (text,) in rows]
    config = {"version": "2", "updated": _now(), "updatedBy": "anonymous", "entries": entries}
    event = Proposed(
        uuid.uuid4().bytes, "$PersistentConfig", True, json.dumps(config).encode(), b""
    )
    transaction.stage(transaction.stream(CONFIG_STREAM), event)


def save_checkpoint(settings: GroupSettings, value: int) -> Append:
    """Record that everything up to this revision or position has been handled."""
    data = json.dumps(settings.position_text(value)).encode()
    event = Proposed(uuid.uuid4().bytes, CHECKPOINT_TYPE, True, data, b"")
    return Append(settings.checkpoint_stream, ANY, [event])


def park(settings: GroupSettings, link: bytes, reason: str, order: int) -> Append:
    """Write a link to the original, with why and when."""
    metadata: dict[str, object] = {"added": _now(), "reason": reason}
    if order:
        metadata["subscriptionEventNumber"] = order
    event = Proposed(uuid.uuid4().bytes, LINK_TYPE, False, link, json.dumps(metadata).encode())
    return Append(settings.parked_stream, ANY, [event])


@dataclass(frozen=True, slots=True)
class TruncateParked:
    """Truncate the parked stream: replayed messages below this revision have an outcome."""

    stream: str
    revision: int

    def apply(self, transaction: WriteTransaction) -> None:
        """Move ``$tb``, which only ever goes forwards."""
        state = transaction.stream(self.stream)
        if not state.soft_deleted and state.metadata.truncate_before < self.revision:
            stage_metadata(transaction, state, b'{"$tb":%d}' % self.revision)
