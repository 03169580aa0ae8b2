"""A faster path than ASGI for a request that is complete, and for an answer that is complete.

ASGI splits an answer into messages and checks each header with two regular expressions, which is a
sixth of the cost of a read. Nearly every answer of ours is complete at once: here its head and body
are written as one piece of bytes, checked together. In special cases `Exchange` declines, and the
caller uses ASGI.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from api.http.reply import Fields

EXCHANGE = "rayfold.exchange"
"""The key in a request's scope, if the server supports it."""

_CONTROLS = bytes([*range(9), *range(10, 32), 127])
_WITHOUT_BODY = (204, 304)


class Exchange:
    """One request and its answer, on top of uvicorn's objects."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    def body(self) -> bytes | None:
        """Return the request's body, once, if it is complete; else None."""
        cycle = self._cycle
        if cycle.more_body or cycle.disconnected or cycle.waiting_for_100_continue:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def hold_nothing_back(self) -> None:
        """Make senders wait as soon as the client has not read everything.

        A slow client of a stream then gets only the newest state. Otherwise up to 64 KiB of older
        states would lie in its transport, which is much if thousands of clients follow a row.
        """
        transport = self._cycle.transport
        if not transport.is_closing():  # uvloop's raises then
            transport.set_write_buffer_limits(high=0)

    def answer(self, status: int, headers: Fields, body: bytes) -> bool:
        """Send an answer with a content length; return False if it must be sent by ASGI."""
        cycle = self._cycle
        if (
            status >= 400  # it may end the connection
            or status in _WITHOUT_BODY
            or not cycle.keep_alive
            or cycle.disconnected
            or cycle.response_started
            or cycle.flow.write_paused
            or cycle.scope["method"] == "HEAD"
        ):
            return False
        fields = [b"%b: %b\r\n" % field for field in (*cycle.default_headers, *headers)]
        head = b"%b%b\r\n" % (STATUS_LINE[status], b"".join(fields))
        # Exactly one line end for each line and no other control character: else a value could
        # inject a header.
        if len(head) - len(head.translate(None, _CONTROLS)) != 2 * (len(fields) + 2):
            return False
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        cycle.transport.write(head + body)
        cycle.message_event.set()
        cycle.on_response()
        return True
