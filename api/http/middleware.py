"""What a domain's middleware is given of a request."""

from __future__ import annotations

from actors.command_middleware import Sender
from api.http.endpoint import Call
from rayfold import Origin

_SECRET = {b"authorization", b"cookie", b"proxy-authorization"}


def sender_of(call: Call) -> Sender:
    """Return the sender of a command or a query, from its request."""
    caller = call.caller
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in call.headers.items()
        if name not in _SECRET
    }
    return Sender(Origin.HTTP, caller.role.name.lower(), frozenset(caller.permissions), headers)
