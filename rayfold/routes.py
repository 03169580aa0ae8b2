"""Routes: the HTTP method and path of each command and query, as data without handlers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rayfold.messages import Command
from rayfold.query import Query

_PARAMETER = re.compile(r"{([^{}/]+)}")
_PATH = re.compile(r"(/([A-Za-z0-9._~-]+|{[A-Za-z][A-Za-z0-9_]*}))+\Z")

METHODS = ("GET", "POST", "DELETE")

OUR_PATHS = (
    *(
        "commands",
        "queries",
        "processes",
        "publications",
        "health",
        "metrics",
        "schema",
        "docs",
        "console",
    ),
    "operators",
)
"""First segments of the gateway's own paths, which no route may use."""


@dataclass(frozen=True)
class Route:
    """`Route("POST", "/orders/{order_id}/lines", AddLine)`.

    Path parameters are fields of the message. A command's other fields come from the JSON
    body, a query's from the query string. `derived_id` names an id field that the client may
    leave out: the id is then derived from the command id, so that a retry with the same
    `Idempotency-Key` means the same aggregate. `minimal` is a query by the same key, whose
    answer clients get that ask for the minimal representation. `history=False` leaves out the
    `…/history` of a row, which shows all fields of its events, not only those of the row.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    message: type[Command] | type[Query]
    derived_id: str | None = None
    minimal: type[Query] | None = None
    history: bool = True

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the path's parameters, in order."""
        return tuple(_PARAMETER.findall(self.path))

    @property
    def shape(self) -> str:
        """The path without the names of its parameters: clients cannot tell two routes with the
        same shape apart."""
        return _PARAMETER.sub("{}", self.path)

    def mistakes_of_message(self) -> list[str]:
        """Return the mistakes in the method and the message alone, one sentence each."""
        where, message = f"the route {self.method} {self.path}", self.message
        if not (isinstance(message, type) and issubclass(message, Command | Query)):
            return [f"{where} is for {message!r}: give the class of a command or a query"]
        if self.method not in METHODS:
            return [f"{where}: a route is one of {', '.join(METHODS)}"]
        return []

    def mistakes(self, id_field: str | None) -> list[str]:
        """Return the mistakes in the route, one sentence each.

        `id_field` is the id field of the command's aggregate; None for a query.
        """
        where, message = f"the route {self.method} {self.path}", self.message
        name, fields = message.__qualname__, message.model_fields
        found = []
        if not _PATH.match(self.path):
            found.append(f"{where} is not a path of segments and {{parameters}} in ASCII")
        elif self.path.split("/")[1] in OUR_PATHS:
            found.append(f"{where} belongs to the gateway: choose another first segment")
        if issubclass(message, Query) != (self.method == "GET"):
            found.append(f"{where}: GET is for queries, POST and DELETE are for commands")
        found += [
            f"{where} has the parameter {each!r}, which is not a field of {name}"
            for each in self.parameters
            if each not in fields
        ]
        if id_field is not None and issubclass(message, Command):
            creates = message.__rayfold__.creates
            if id_field not in self.parameters and not self.derived_id and not creates:
                told = f"{where} lacks {{{id_field}}}, the id of what {name} is for"
                found.append(f"{told}; only one with creates=True may bring it in its body")
        if self.derived_id is not None and self.derived_id not in fields:
            found.append(f"{where} derives {self.derived_id!r}, which is not a field of {name}")
        return found
