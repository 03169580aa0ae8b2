"""The last answers that were server errors, for the operators' console."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

KEPT = 20


class RecentErrors:
    """Keeps the last `KEPT` answers with a status of 500 or more."""

    def __init__(self) -> None:
        self._last: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def note(self, method: str, path: str, status: int, detail: str) -> None:
        """Add an answer."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._last.appendleft(
            {"at": at, "method": method, "path": path[:200], "status": status, "detail": detail}
        )

    def last(self) -> Iterable[dict[str, Any]]:
        """Return the answers, the newest first."""
        return list(self._last)
