"""The outcomes of recent commands, for clients that ask afterwards."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from rayfold import Receipt

CAPACITY = 20_000
"""The number of commands that this gateway remembers until it stops: some 10 MB."""


class Rejection(NamedTuple):
    """Nothing was appended; `code` is the rule of a `Rejected`, or the kind of another error."""

    code: str
    detail: str


class CommandRecord(NamedTuple):
    """`receipt` and `rejection` are None while the command is being handled, and also when its
    outcome is unknown; `error` then says why."""

    receipt: Receipt | None = None
    rejection: Rejection | None = None
    error: str = ""


class CommandRecords:
    """Outcomes by command id; the oldest are dropped first."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._records: OrderedDict[str, CommandRecord] = OrderedDict()

    def begin(self, command_id: str) -> None:
        """Note that a command is being handled; keep what is already known of it."""
        if command_id not in self._records:
            self.put(command_id, CommandRecord())

    def put(self, command_id: str, record: CommandRecord) -> None:
        """Store an outcome."""
        self._records[command_id] = record
        if len(self._records) > self._capacity:
            self._records.popitem(last=False)

    def settle(self, command_id: str, record: CommandRecord) -> None:
        """Store an outcome, unless the command has a receipt already: its events are on the log."""
        known = self._records.get(command_id)
        if known is None or known.receipt is None:
            self.put(command_id, record)

    def forget(self, command_id: str) -> None:
        """Drop a command that had no effect, unless it has a receipt already."""
        known = self._records.get(command_id)
        if known is not None and known.receipt is None:
            del self._records[command_id]

    def get(self, command_id: str) -> CommandRecord | None:
        """Return the outcome; None if nothing is known."""
        return self._records.get(command_id)
