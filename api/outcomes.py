"""What became of recent commands, for clients that ask afterwards."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from actors.entity import AggregateType
from rayfold import Receipt, Refused

MOST = 20_000
"""As many are remembered, in this gateway, until it stops: some 10 MB."""


class Outcome(NamedTuple):
    """`receipt` and `refusal` are None while the command is on its way."""

    aggregate: AggregateType
    receipt: Receipt | None = None
    refusal: Refused | None = None


class Outcomes:
    """Outcomes by command id, the oldest forgotten first."""

    def __init__(self) -> None:
        self._outcomes: OrderedDict[str, Outcome] = OrderedDict()

    def put(self, command_id: str, outcome: Outcome) -> None:
        """Remembers what is known now."""
        self._outcomes[command_id] = outcome
        if len(self._outcomes) > MOST:
            self._outcomes.popitem(last=False)

    def forget(self, command_id: str) -> None:
        """Nothing became of it, as far as is known."""
        self._outcomes.pop(command_id, None)

    def get(self, command_id: str) -> Outcome | None:
        """What is known; None if nothing is."""
        return self._outcomes.get(command_id)
