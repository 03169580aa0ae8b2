"""The outcomes of recent commands, for clients that ask afterwards."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from rayfold import Receipt

CAPACITY = 20_000
"""Commands that this gateway remembers until it stops: some 10 MB."""


class Rejection(NamedTuple):
    """Nothing was appended; `code` is the rule's, or what else it met."""

    code: str
    detail: str


class CommandRecord(NamedTuple):
    """`receipt` and `rejection` are None while the command is on its way, or when nobody
    knows what became of it; `error` then says why."""

    receipt: Receipt | None = None
    rejection: Rejection | None = None
    error: str = ""


class CommandRecords:
    """What is known by command id, the oldest forgotten first."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._records: OrderedDict[str, CommandRecord] = OrderedDict()

    def begin(self, command_id: str) -> None:
        """Note that it is on its way; keep what is known of it already."""
        if command_id not in self._records:
            self.put(command_id, CommandRecord())

    def put(self, command_id: str, record: CommandRecord) -> None:
        """Remember what is known now."""
        self._records[command_id] = record
        if len(self._records) > self._capacity:
            self._records.popitem(last=False)

    def settle(self, command_id: str, record: CommandRecord) -> None:
        """Note what is known now, unless it has a receipt already: what is in the log stays."""
        known = self._records.get(command_id)
        if known is None or known.receipt is None:
            self.put(command_id, record)

    def forget(self, command_id: str) -> None:
        """Forget it, as nothing became of it, unless it has a receipt already."""
        known = self._records.get(command_id)
        if known is not None and known.receipt is None:
            del self._records[command_id]

    def get(self, command_id: str) -> CommandRecord | None:
        """Return what is known; None if nothing is."""
        return self._records.get(command_id)
