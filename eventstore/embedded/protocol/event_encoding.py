"""Protobuf bytes made and cut by hand, where a message object per event would cost too much.

An event is encoded once, when it is written, as the complete ``ReadResp`` that most clients ask
for (id as text). That very value is stored, kept among the recent events, and sent to every reader
and subscriber. Other forms (structured ids, links, retry counts) are cut out of it.
"""

from uuid import UUID


def varint(value: int) -> bytes:
    """Return base-128 encoding of a non-negative integer."""
    if value < 0x4000:
        return _SMALL[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL = [bytes((i,)) for i in range(0x80)]
_SMALL += [bytes((i & 0x7F | 0x80, i >> 7)) for i in range(0x80, 0x4000)]


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the integer at an offset, and the offset behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def field(tag: bytes, payload: bytes) -> bytes:
    """Return a length-delimited field."""
    return tag + varint(len(payload)) + payload


def stream_identifier(name: str) -> bytes:
    """Return field 2 of ``RecordedEvent``: the same for a whole stream, so callers keep it."""
    return field(b"\x12", field(b"\x1a", name.encode()))


def type_entries(name: str, is_json: bool) -> bytes:
    """Return the ``type`` and ``content-type`` entries of the metadata map (field 6)."""
    content = b"application/json" if is_json else b"application/octet-stream"
    return field(b"\x32", b"\x0a\x04type" + field(b"\x12", name.encode())) + field(
        b"\x32", b"\x0a\x0ccontent-type" + field(b"\x12", content)
    )


def created_entry(ticks: int) -> bytes:
    """Return the ``created`` entry of the metadata map: 100 ns ticks since the Unix epoch."""
    return field(b"\x32", b"\x0a\x07created" + field(b"\x12", b"%d" % ticks))


def uuid_text(event_id: bytes) -> bytes:
    """Return canonical text of a 16-byte id."""
    h = event_id.hex().encode()
    return b"%b-%b-%b-%b-%b" % (h[:8], h[8:12], h[12:16], h[16:20], h[20:])


def encode_event(
    event_id: bytes,
    stream_ident: bytes,
    revision: int,
    position: int,
    entries: bytes,
    custom_metadata: bytes,
    data: bytes,
) -> bytes:
    """Return the complete ``ReadResp`` of an event."""
    at = varint(position)
    record = b"\x0a\x26\x12\x24%b%b\x18%b\x20%b\x28%b%b\x3a%b%b\x42%b%b" % (
        uuid_text(event_id),
        stream_ident,
        varint(revision),
        at,
        at,
        entries,
        varint(len(custom_metadata)),
        custom_metadata,
        varint(len(data)),
        data,
    )
    head = b"\x0a" + varint(len(record))
    size = len(head) + len(record) + 1 + len(at)
    return b"\x0a%b%b%b\x18%b" % (varint(size), head, record, at)


def record_of(resp: bytes) -> bytes:
    """Return the ``RecordedEvent`` inside a stored ``ReadResp``."""
    _, at = read_varint(resp, 1)
    size, at = read_varint(resp, at + 1)
    return resp[at : at + size]


def structured_record(record: bytes) -> bytes:
    """Return the same record with its id as two signed 64-bit halves."""
    number = UUID(record[4:40].decode()).int
    halves = field(b"\x0a", b"\x08" + varint(number >> 64) + b"\x10" + varint(number & 2**64 - 1))
    return field(b"\x0a", halves) + record[40:]


def read_event(event: bytes | None, link: bytes | None, position: int, retry: int = -1) -> bytes:
    """Return a ``ReadResp`` with one ``ReadEvent``; ``retry`` ≥ 0 adds a group's retry count."""
    body = b""
    if event is not None:
        body += field(b"\x0a", event)
    if link is not None:
        body += field(b"\x12", link)
    body += b"\x18" + varint(position)
    if retry >= 0:
        body += b"\x28" + varint(retry)
    return field(b"\x0a", body)


def structured_resp(resp: bytes) -> bytes:
    """Return a stored ``ReadResp`` with its id in the structured form."""
    record = record_of(resp)
    outer, start = read_varint(resp, 1)
    size, at = read_varint(resp, start + 1)
    rest = resp[at + size : start + outer]
    return field(b"\x0a", field(b"\x0a", structured_record(record)) + rest)
