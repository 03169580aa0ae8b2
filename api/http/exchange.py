"""A shortcut past ASGI, for a request and an answer that are each complete at once.

ASGI takes an answer apart into messages, and looks at each header of it by two regular
expressions. That is a sixth of what a read costs. Nearly every answer of ours is there at once:
its head and body are one piece of bytes here, checked in one go. What is in any way special is
left to ASGI: `Exchange` says so, and the caller goes that way.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from api.http.reply import Fields

EXCHANGE = "rayfold.exchange"
"""Where a request's scope has it, if the server gives one."""

_CONTROLS = bytes([*range(9), *range(10, 32), 127])
_WITHOUT_BODY = (204, 304)


class Exchange:
    """One request and its answer, on top of uvicorn's."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    def body(self) -> bytes | None:
        """Return the request's body, once, if all of it is there."""
        cycle = self._cycle
        if cycle.more_body or cycle.disconnected or cycle.waiting_for_100_continue:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def hold_nothing_back(self) -> None:
        """Have who sends wait as soon as the client leaves anything unread.

        A stream gives the newest state then. It would give the older ones as well, up to the 64 KiB
        that a transport holds: much, where thousands follow a row.
        """
        transport = self._cycle.transport
        if not transport.is_closing():  # uvloop's raises then
            transport.set_write_buffer_limits(high=0)

    def answer(self, status: int, headers: Fields, body: bytes) -> bool:
        """Send an answer that names its content's length; False: it has to go by ASGI."""
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
        # A line's end for each line, and no other control character: nothing is smuggled in.
        if len(head) - len(head.translate(None, _CONTROLS)) != 2 * (len(fields) + 2):
            return False
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        cycle.transport.write(head + body)
        cycle.message_event.set()
        cycle.on_response()
        return True
