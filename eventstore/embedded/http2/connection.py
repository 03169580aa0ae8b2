"""One HTTP/2 connection: frames in, frames out, windows, and the life of its calls."""

import asyncio
from collections.abc import Callable
from typing import cast

from eventstore.embedded.http2 import frames
from eventstore.embedded.http2.call import RECEIVE_WINDOW, Http2Call
from eventstore.embedded.http2.connections import Connections
from eventstore.embedded.http2.frames import ProtocolError
from eventstore.embedded.http2.hpack import Decoder, HpackError

_CONNECTION_WINDOW = 256 << 20
_MAX_FRAME = 1 << 20
_MAX_BLOCK = 128 << 10
_MAX_CALLS = 20_000
_TURN = 1 << 20
"""Bytes of responses in one turn of the loop, and the limit of the socket's buffer."""
_PREFACE_TIMEOUT = 5.0
"""Seconds within which a peer must send the HTTP/2 preface; a port scanner never does."""
_KEEPALIVE = 10.0
"""Seconds of silence until the peer is sent a PING, and as many until it must have answered."""

Dispatch = Callable[["Connection", int, dict[bytes, bytes], bool], None]

Admits = Callable[[asyncio.Transport], bool]
"""Returns whether a new connection is served at all."""


class Connection(asyncio.Protocol):
    """Parses what arrives and counts the windows; ``dispatch`` starts the calls."""

    def __init__(self, dispatch: Dispatch, registry: Connections, admits: Admits) -> None:
        self._dispatch = dispatch
        self._admits = admits
        self._registry = registry
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.peer = ""
        self.calls: dict[int, Http2Call] = {}
        self._initial_window = frames.DEFAULT_WINDOW
        self._widened = False
        self._in = bytearray()
        self._out: list[bytes] = []
        self._pushed = 0
        self._flushing = False
        self._preface = False
        self._decoder = Decoder()
        self._block = bytearray()
        self._block_stream = 0
        self._block_ends = False
        self._last_stream = 0
        self._send_window = frames.DEFAULT_WINDOW
        self._frame_size = frames.DEFAULT_FRAME
        self._unacknowledged = 0
        self._blocked: dict[int, Http2Call] = {}
        self._paused: asyncio.Future[None] | None = None
        self._heard = True
        self._unread = 0
        """Bytes that the peer had left unread when the pause began, or at the last check."""
        self._keepalive: asyncio.TimerHandle | None = None
        self._closing = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the peer."""
        # uvloop's transports are no subclasses of asyncio's; they only behave like them.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_TURN)
        self.peer = str(transport.get_extra_info("peername"))
        if not self._admits(self._transport):
            self._transport.abort()
            return
        self._registry.add(self)
        if self._transport.is_closing():
            return
        greeting = {
            0x3: _MAX_CALLS,
            frames.SETTING_INITIAL_WINDOW: RECEIVE_WINDOW,
            frames.SETTING_MAX_FRAME: _MAX_FRAME,
            0x6: 65_536,
        }
        self.send(frames.settings(greeting))
        self.send(frames.window_update(0, _CONNECTION_WINDOW - frames.DEFAULT_WINDOW))
        self._keepalive = self._loop.call_later(_PREFACE_TIMEOUT, self._check_preface)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the running calls."""
        self._registry.discard(self)
        if self._keepalive is not None:
            self._keepalive.cancel()
        for call in list(self.calls.values()):
            self._cancel(call)
        self.resume_writing()

    def pause_writing(self) -> None:
        """Stop sending, because the socket's buffer is full, and stop reading requests.

        Otherwise the answers for a peer that reads none of them, to PINGs or refused calls, would
        all be kept in memory.
        """
        if self._paused is None:
            self._paused = self._loop.create_future()
            if self._transport is not None and not self._transport.is_closing():
                self._unread = self._transport.get_write_buffer_size()
                self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Resume sending and reading, because the peer has read."""
        paused, self._paused = self._paused, None
        if paused is not None and self._transport is not None and not self._transport.is_closing():
            self._heard = True
            self._transport.resume_reading()
        if paused is not None and not paused.done():
            paused.set_result(None)

    async def writable(self) -> None:
        """Wait while the socket's buffer is full.

        The buffer gets a turn's output only at the end of the turn. For a peer whose windows never
        close, a whole read would be queued in memory in one turn, while no other call is served.
        """
        if self._pushed >= _TURN:
            self._flush()
            await asyncio.sleep(0)
        while self._paused is not None:
            await asyncio.shield(self._paused)

    def data_received(self, data: bytes) -> None:
        """Parse frames; a peer that breaks the protocol loses this connection and no more."""
        self._heard = True
        self._in += data
        try:
            self._parse()
        except ProtocolError as error:
            self._die(error.code)
        except HpackError:
            self._die(frames.COMPRESSION_ERROR)

    def _die(self, code: int) -> None:
        self._in.clear()
        self.send(frames.goaway(self._last_stream, code))
        self._flush()
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def _check_preface(self) -> None:
        if self._preface:
            self._keepalive = self._loop.call_later(_KEEPALIVE, self._check_alive)
        else:
            self.abort()

    def _check_alive(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        unread, self._unread = self._unread, self._transport.get_write_buffer_size()
        if self._paused is not None and self._unread < unread:
            self._heard = True  # nothing is read from it meanwhile, but it has read
        if not self._heard:
            self._transport.abort()
            return
        self._heard = False
        self.send(frames.frame(frames.PING, 0, 0, b"rayfold!"))
        self._keepalive = self._loop.call_later(_KEEPALIVE, self._check_alive)

    # Frames in

    def _parse(self) -> None:
        buffer = self._in
        if not self._preface:
            if not frames.PREFACE.startswith(buffer[: len(frames.PREFACE)]):
                raise ProtocolError(frames.PROTOCOL_ERROR, "not HTTP/2")
            if len(buffer) < len(frames.PREFACE):
                return
            del buffer[: len(frames.PREFACE)]
            self._preface = True
        at = 0
        end = len(buffer)
        while end - at >= 9:
            size = int.from_bytes(buffer[at : at + 3], "big")
            if size > _MAX_FRAME:
                raise ProtocolError(frames.FRAME_SIZE_ERROR, "frame too large")
            if end - at - 9 < size:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big") & 0x7FFFFFFF
            payload = bytes(buffer[at + 9 : at + 9 + size])
            at += 9 + size
            if self._block_stream and kind != frames.CONTINUATION:
                raise ProtocolError(frames.PROTOCOL_ERROR, "a header block was interrupted")
            self._take(kind, flags, stream, payload)
            if self._closing:
                return
        if at:
            del buffer[:at]
        if self._widened:  # only once for all updates: there may be thousands of calls
            self._widened = False
            for call in list(self.calls.values()):
                self.push(call)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == frames.DATA:
            self._take_data(flags, stream, payload)
        elif kind == frames.HEADERS:
            self._take_headers(flags, stream, payload)
        elif kind == frames.CONTINUATION:
            self._take_continuation(flags, stream, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._take_window(stream, payload)
        elif kind == frames.SETTINGS:
            self._take_settings(flags, stream, payload)
        elif kind == frames.PING:
            if stream or len(payload) != 8:
                raise ProtocolError(frames.FRAME_SIZE_ERROR, "bad PING")
            if not flags & frames.ACK:
                self.send(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.RST_STREAM:
            call = self.calls.get(stream)
            if call is not None:
                self._cancel(call)
        elif kind == frames.PUSH_PROMISE:
            raise ProtocolError(frames.PROTOCOL_ERROR, "clients do not push")
        # GOAWAY: the peer closes when its calls are over. PRIORITY and unknown frames: ignored.

    def _unpadded(self, flags: int, payload: bytes) -> bytes:
        if not flags & frames.PADDED:
            return payload
        if not payload or payload[0] >= len(payload):
            raise ProtocolError(frames.PROTOCOL_ERROR, "bad padding")
        return payload[1 : len(payload) - payload[0]]

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        if not stream or stream > self._last_stream:
            raise ProtocolError(frames.PROTOCOL_ERROR, "DATA on an idle stream")
        self._unacknowledged += len(payload)
        if self._unacknowledged > _CONNECTION_WINDOW // 4:
            self.send(frames.window_update(0, self._unacknowledged))
            self._unacknowledged = 0
        call = self.calls.get(stream)
        if call is None:
            return
        data = self._unpadded(flags, payload)
        if data:
            call.receive(data)
        if flags & frames.END_STREAM:
            call.end()

    def _take_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if not stream & 1:
            raise ProtocolError(frames.PROTOCOL_ERROR, "bad stream number")
        payload = self._unpadded(flags, payload)
        if flags & frames.PRIORITIZED:
            payload = payload[5:]
        self._block_ends = bool(flags & frames.END_STREAM)
        self._block_stream = stream
        self._block += payload
        if flags & frames.END_HEADERS:
            self._end_block()

    def _take_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if stream != self._block_stream or not stream:
            raise ProtocolError(frames.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._block += payload
        if len(self._block) > _MAX_BLOCK:
            raise ProtocolError(frames.ENHANCE_YOUR_CALM, "header block too large")
        if flags & frames.END_HEADERS:
            self._end_block()

    def _end_block(self) -> None:
        stream, self._block_stream = self._block_stream, 0
        headers = dict(self._decoder.decode(bytes(self._block)))
        self._block.clear()
        call = self.calls.get(stream)
        if call is not None:  # trailers of the caller
            call.end()
            return
        if stream <= self._last_stream:
            return  # the call is already over
        self._last_stream = stream
        self._dispatch(self, stream, headers, self._block_ends)

    def _take_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) % 6:
            raise ProtocolError(frames.FRAME_SIZE_ERROR, "bad SETTINGS")
        if flags & frames.ACK:
            return
        for at in range(0, len(payload), 6):
            key = int.from_bytes(payload[at : at + 2], "big")
            value = int.from_bytes(payload[at + 2 : at + 6], "big")
            if key == frames.SETTING_INITIAL_WINDOW:
                if value > frames.MAX_WINDOW:
                    raise ProtocolError(frames.FLOW_CONTROL_ERROR, "window too large")
                self._initial_window = value
            elif key == frames.SETTING_MAX_FRAME:
                if not frames.DEFAULT_FRAME <= value < 1 << 24:
                    raise ProtocolError(frames.PROTOCOL_ERROR, "bad frame size")
                self._frame_size = min(value, 1 << 18)
        # Acknowledged before the new window is used: the peer widens its own only then.
        self.send(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._widened = True

    def _take_window(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ProtocolError(frames.FRAME_SIZE_ERROR, "bad WINDOW_UPDATE")
        increment = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if stream:
            call = self.calls.get(stream)
            if call is not None:
                call.send_window += increment
                self.push(call)
            return
        self._send_window += increment
        if self._send_window > frames.MAX_WINDOW or not increment:
            raise ProtocolError(frames.FLOW_CONTROL_ERROR, "bad window")
        for call in list(self._blocked.values()):
            if self._send_window <= 0:
                break
            del self._blocked[call.stream]
            self.push(call)

    # Frames out

    def send(self, data: bytes) -> None:
        """Queue bytes; all bytes queued in one turn of the loop are sent in one write."""
        self._out.append(data)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        out, self._out = self._out, []
        self._pushed = 0
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(out))

    def send_headers(self, stream: int, block: bytes, *, end: bool) -> None:
        """Send response headers or trailers."""
        if stream in self.calls:
            flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
            self.send(frames.frame(frames.HEADERS, flags, stream, block))

    def grant(self, stream: int, size: int) -> None:
        """Let the caller send that many bytes more."""
        call = self.calls.get(stream)
        if size and call is not None and not call.half_closed:
            self.send(frames.window_update(stream, size))

    def push(self, call: Http2Call) -> None:
        """Send as much of a call's output as its window and the connection's window allow."""
        out = call.out
        at = 0
        size = len(out)
        while at < size:
            window = self._initial_window + call.send_window
            length = min(size - at, self._frame_size, window, self._send_window)
            if length <= 0:
                if window > 0:
                    self._blocked[call.stream] = call
                break
            self.send(frames.head(length, frames.DATA, 0, call.stream))
            self.send(bytes(out[at : at + length]))
            at += length
            call.send_window -= length
            self._send_window -= length
        if at:
            self._pushed += at
            del out[:at]
        if not out:
            call.sent()

    # Calls

    def forget(self, call: Http2Call) -> None:
        """Forget a call that is over."""
        call.closed = True
        self.calls.pop(call.stream, None)
        self._blocked.pop(call.stream, None)

    def _cancel(self, call: Http2Call) -> None:
        self.forget(call)
        call.out.clear()
        call.sent()
        if call.task is not None:
            call.task.cancel()

    def say_goodbye(self) -> None:
        """Accept no new calls, so that the peer opens another connection elsewhere. A call that
        crosses this frame is refused with a status, which says more than the frame would."""
        self.send(frames.goaway(frames.MAX_WINDOW, frames.NO_ERROR))

    @property
    def idle(self) -> bool:
        """Whether it has no call, or has not sent the HTTP/2 preface yet."""
        return not self.calls

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Send what is queued, then close."""
        self._flush()
        if self._transport is not None:
            self._transport.close()
