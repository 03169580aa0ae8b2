"""Where a domain's messages live in the URL space: data, not handlers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rayfold.messages import Command
from rayfold.query import Query

_PARAMETER = re.compile(r"{([a-z_]+)}")


@dataclass(frozen=True)
class Route:
    """`Route("POST", "/orders/{order_id}/lines", AddLine)`.

    Path parameters are fields of the message; a command's other fields come from the
    JSON body, a query's from the query string. `derived_id` names an id field that the
    client may leave out: it then derives from the command id, so that a retry with the
    same `Idempotency-Key` means the same aggregate. `minimal` is a query by the same key
    that answers a client who asks for the minimal representation.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    message: type[Command] | type[Query]
    derived_id: str | None = None
    minimal: type[Query] | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the path's parameters, in order."""
        return tuple(_PARAMETER.findall(self.path))
