"""Numbers that the protocol fixes, under the names used everywhere in this package."""

from typing import Final

NO_STREAM: Final = -1
"""Expected revision: the stream must have no events. Also the "actual" of a missing stream."""
ANY: Final = -2
"""Expected revision: no check; idempotency is weak (by id alone)."""
STREAM_EXISTS: Final = -4
"""Expected revision: the stream, or at least its metadata, must exist."""
SOFT_DELETED: Final = -5
"""Expected state of v2 checks: the stream must be soft-deleted."""
TOMBSTONED: Final = -6
"""Expected (and reported) state of v2 checks: the stream must be tombstoned."""

MAX: Final = 2**63 - 1
"""Revision of a tombstone event, and ``$tb`` of a soft-deleted stream."""

MAX_EVENT_SIZE: Final = 16_777_216
MAX_RECORD_SIZE: Final = 16_767_216
MAX_APPEND_SIZE: Final = 268_435_456
MAX_V1_MESSAGE: Final = 16_767_216
"""A v1 request message above this is refused, as by the real server's transport limit."""
MAX_STREAM_NAME_BYTES: Final = 65_536
"""Longer names are refused: they would fill index pages and no trailer could carry them."""

SERVER_VERSION: Final = "26.1.0"
"""Reported to clients that ask; AppendRecords exists from 26.1, AppendSession from 25.1."""

LINK_TYPE: Final = "$>"
METADATA_TYPE: Final = "$metadata"
TOMBSTONE_TYPE: Final = "$streamDeleted"

FLAG_HIDDEN: Final = 1
"""The event never shows in ``$all`` (checkpoints and parked links of groups on ``$all``)."""
FLAG_SYSTEM: Final = 2
"""The clients' default filter drops this event's type; kept so that SQL can do the same."""
