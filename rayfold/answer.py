"""What a query returns: the document as the store made it, and the store's position in the log."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What a query returns.

    `body` is JSON: the row with its `revision`, a page `{"items": […], "next_cursor"}`, or
    what `SqlQuery` and `ComposedQuery` describe. It is None if there is no such row.
    `position` is the position in `$all` that the store had reached.
    """

    body: bytes | None
    revision: int | None
    position: int

    @property
    def document(self) -> Any:
        """The decoded body; None if there is none."""
        return None if self.body is None else json.loads(self.body)

    def with_document(self, document: Any) -> Answer:
        """Return the same answer with another body, a value for JSON; None means no such row.

        Raises:
            TypeError, ValueError: JSON cannot represent the value, for instance NaN or a datetime.
        """
        body = None
        if document is not None:
            text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            body = text.encode()
        return self._replace(body=body)
