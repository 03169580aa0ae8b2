"""What became of recent commands, for clients that ask afterwards."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from rayfold import Receipt
from rayfold.registry import AggregateType

MOST = 20_000
"""As many are remembered, in this gateway, until it stops: some 10 MB."""


class Rejection(NamedTuple):
    """Nothing was appended; `code` is the rule's, or what else it met."""

    code: str
    detail: str


class Outcome(NamedTuple):
    """`receipt` and `rejection` are None while the command is on its way, or when nobody
    knows what became of it; `trouble` then says why."""

    aggregate: AggregateType
    receipt: Receipt | None = None
    rejection: Rejection | None = None
    trouble: str = ""


class Outcomes:
    """Outcomes by command id, the oldest forgotten first."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._outcomes: OrderedDict[str, Outcome] = OrderedDict()

    def begin(self, command_id: str, aggregate: AggregateType) -> None:
        """It is on its way; what is known of it already is kept."""
        if command_id not in self._outcomes:
            self.put(command_id, Outcome(aggregate))

    def put(self, command_id: str, outcome: Outcome) -> None:
        """Remembers what is known now."""
        self._outcomes[command_id] = outcome
        if len(self._outcomes) > self._most:
            self._outcomes.popitem(last=False)

    def settle(self, command_id: str, outcome: Outcome) -> None:
        """The same, unless it has a receipt already: what stands in the log stands."""
        known = self._outcomes.get(command_id)
        if known is None or known.receipt is None:
            self.put(command_id, outcome)

    def forget(self, command_id: str) -> None:
        """Nothing became of it; a receipt that it has already stays."""
        known = self._outcomes.get(command_id)
        if known is not None and known.receipt is None:
            del self._outcomes[command_id]

    def get(self, command_id: str) -> Outcome | None:
        """What is known; None if nothing is."""
        return self._outcomes.get(command_id)
