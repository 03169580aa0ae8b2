"""Decides when to change the number of parts of a kind, and why. Pure: it is given the time.

A load above `high` for a while adds parts; one that would stay below `low` with one part less, for
much longer, removes one. If a removed part is soon needed again, the waiting time before the next
removal doubles, so that a load at the limit does not oscillate.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple


@dataclass(frozen=True)
class Rule:
    """`load` is a number per part, in `unit`; times are in seconds.

    `shared`: whether more parts share the load, as with queries; lag is not shared, but reduced.
    """

    unit: str
    high: float
    low: float
    shared: bool
    up_after: float = 3.0
    down_after: float = 60.0


QUERIES = Rule("queries in flight for each", high=48.0, low=12.0, shared=True)
LAG = Rule("seconds of lag", high=2.0, low=0.2, shared=False, up_after=5.0, down_after=300.0)

MOST_PATIENCE = 16
"""The longest wait before a removal, as a multiple of `down_after`."""


class Move(NamedTuple):
    """The new number of parts, and the reason."""

    parts: int
    reason: str


class Autoscaler:
    """Scales one target, between `least` and `most` parts."""

    def __init__(self, rule: Rule, least: int, most: int) -> None:
        self._rule = rule
        self._least = least
        self._most = most
        self._high_since: float | None = None
        self._low_since: float | None = None
        self._patience = 1
        self._went_down_at: float | None = None

    def look(self, now: float, count: int, load: float) -> Move | None:
        """Take the `load` of each of `count` parts at `now`; return a change, or None."""
        if not self._least <= count <= self._most:
            bound = min(max(count, self._least), self._most)
            return Move(bound, f"declared to be {self._least} to {self._most}")
        rule = self._rule
        with_one_less = load * count / (count - 1) if rule.shared and count > 1 else load
        self._high_since = _since(self._high_since, load > rule.high, now)
        self._low_since = _since(self._low_since, with_one_less < rule.low, now)
        if self._high_since is not None and now - self._high_since >= rule.up_after:
            return self._up(now, count, load)
        patience = rule.down_after * self._patience
        if self._low_since is not None and now - self._low_since >= patience:
            return self._down(now, count, load, patience)
        return None

    def _up(self, now: float, count: int, load: float) -> Move | None:
        wanted = ceil(count * load / self._rule.high) if self._rule.shared else count + 1
        wanted = min(max(wanted, count + 1), self._most)
        if wanted == count:
            return None
        missed = self._went_down_at is not None and (
            now - self._went_down_at < self._rule.down_after * self._patience
        )
        self._patience = min(self._patience * 2, MOST_PATIENCE) if missed else 1
        self._high_since = self._low_since = None
        rule = self._rule
        return Move(wanted, f"{load:.1f} {rule.unit}, above {rule.high:g} for {rule.up_after:g} s")

    def _down(self, now: float, count: int, load: float, patience: float) -> Move | None:
        if count == self._least:
            return None
        self._went_down_at = now
        self._high_since = self._low_since = None
        rule = self._rule
        return Move(count - 1, f"{load:.1f} {rule.unit}, below {rule.low:g} for {patience:g} s")


def _since(before: float | None, holds: bool, now: float) -> float | None:
    if not holds:
        return None
    return now if before is None else before
