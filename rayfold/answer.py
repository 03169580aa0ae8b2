"""What a query returns: the document as the store made it, and the store's position in the log."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What a query gives.

    `body`: the row as JSON with its `revision`, a page `{"items": […], "next_cursor"}`, or
    what `SqlQuery` and `ComposedQuery` say; None where there is no such row. `position`: how
    far in `$all` the store had come.
    """

    body: bytes | None
    revision: int | None
    position: int

    @property
    def document(self) -> Any:
        """The body, read; None where there is none."""
        return None if self.body is None else json.loads(self.body)

    def with_document(self, document: Any) -> Answer:
        """Return the same answer with another body, as JSON; None for no such row.

        Raises:
            TypeError, ValueError: JSON has no such value: NaN, say, or a time that is no text yet.
        """
        body = None
        if document is not None:
            text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            body = text.encode()
        return self._replace(body=body)
