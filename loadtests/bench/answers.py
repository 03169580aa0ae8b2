"""The answers to a load client: the number of each status, and messages of failures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

KINDS = 5
"""Different failures that are counted, those that came first."""

LONGEST = 200
"""The most characters of a failure."""

OTHERS = "others"


class Answers:
    """Counts statuses; keeps the messages of the first failures, each with its count."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def take(self, status: int, response: bytes, what: str = "") -> None:
        """Count an answer to `what`; `response` includes its head."""
        self.statuses[f"{what}{status}"] += 1
        if not 200 <= status < 300:
            self._failed(f"{what}{status} {words_of(response)}".strip())

    def broke(self, error: BaseException) -> None:
        """Count a request that ended without an answer."""
        name = type(error).__name__
        self.statuses[name] += 1
        self._failed(f"{name} {error}".strip())

    def _failed(self, text: str) -> None:
        kind = text[:LONGEST]
        is_told = kind in self.failures or len(self.failures) < KINDS
        self.failures[kind if is_told else OTHERS] += 1

    def told(self) -> dict[str, Any]:
        """Return both as plain data."""
        return {"statuses": dict(self.statuses), "failures": dict(self.failures)}


def words_of(response: bytes) -> str:
    """Return a problem's message, or the beginning of any other body."""
    body = response.partition(b"\r\n\r\n")[2]
    try:
        problem = json.loads(body)
        said = [problem[name] for name in ("title", "detail") if name in problem]
        return ": ".join(map(str, said))
    except (ValueError, TypeError):
        return " ".join(body.decode(errors="replace").split())[:LONGEST]


def added(each: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the failures of several runs added up."""
    found: Counter[str] = Counter()
    for one in each:
        found.update(one)
    return dict(found)
