"""The expected-revision check with its idempotency rules: the heart of every write.

After KurrentDB's ``IndexWriter.CheckCommit``. One deviation: ids are looked up in a durable index,
not in a cache of recent ones, so that a retry after a crash is recognised too.
"""

from dataclasses import dataclass
from enum import Enum, auto

from eventstore.embedded.protocol.constants import (
    ANY,
    MAX,
    NO_STREAM,
    SOFT_DELETED,
    STREAM_EXISTS,
)
from eventstore.embedded.storage.write_transaction import StreamState, WriteTransaction


class Decision(Enum):
    """What to do with a write."""

    OK = auto()
    IDEMPOTENT = auto()
    WRONG = auto()
    DELETED = auto()


@dataclass(slots=True)
class Verdict:
    """A decision; ``revision`` and ``position`` are the original ones if it is IDEMPOTENT, else
    ``revision`` is the stream's last one."""

    decision: Decision
    revision: int = NO_STREAM
    position: int = 0


def check(
    transaction: WriteTransaction, state: StreamState, expected: int, ids: list[bytes]
) -> Verdict:
    """Decide a write of events with these ids against everything written before it."""
    last = state.last
    if expected == last and last != MAX:
        return Verdict(Decision.OK, last)  # the common case; the rules below would agree
    if last == MAX:
        allowed = not ids and expected in (ANY, NO_STREAM, MAX)
        return Verdict(Decision.OK if allowed else Decision.DELETED, last)
    if expected == STREAM_EXISTS:
        if state.soft_deleted:
            return Verdict(Decision.DELETED, last)
        if last < 0 and transaction.stream("$$" + state.name).last < 0:
            return Verdict(Decision.WRONG, NO_STREAM)
    if expected in (ANY, STREAM_EXISTS, SOFT_DELETED):
        return _weak(transaction, state, expected, ids)
    if expected < last:
        return _strong(transaction, state, expected, ids)
    return Verdict(Decision.WRONG, last)


def _weak(
    transaction: WriteTransaction, state: StreamState, expected: int, ids: list[bytes]
) -> Verdict:
    """Decide without a revision: only the ids can tell a retry from a new append."""
    last = state.last
    found: tuple[int, int] | None = None
    if last >= 0:
        for index, event_id in enumerate(ids):
            seen = transaction.revision_of(state, event_id)
            if seen is None:
                if index:
                    return Verdict(Decision.WRONG, last)
                break
            found = seen if found is None or seen > found else found
    if found is not None:
        return Verdict(Decision.IDEMPOTENT, *found)
    if expected == SOFT_DELETED and not state.soft_deleted:
        return Verdict(Decision.WRONG, last)
    return Verdict(Decision.OK, last)


def _strong(
    transaction: WriteTransaction, state: StreamState, expected: int, ids: list[bytes]
) -> Verdict:
    """Decide on a retry: its own ids are at exactly the revisions that it would have written."""
    last = state.last
    revives = expected == NO_STREAM and state.soft_deleted
    position = 0
    for index, event_id in enumerate(ids):
        stored = transaction.event_at(state, expected + 1 + index)
        if stored is None or stored[0] != event_id:
            return Verdict(Decision.OK if index == 0 and revives else Decision.WRONG, last)
        position = stored[1]
    if not ids:
        return Verdict(Decision.OK if revives else Decision.WRONG, last)
    return Verdict(Decision.IDEMPOTENT, expected + len(ids), position)
