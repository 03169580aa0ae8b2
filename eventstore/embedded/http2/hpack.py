"""Header compression: decoding with the dynamic table, encoding without one (RFC 7541)."""

from collections import deque
from functools import lru_cache

from eventstore.embedded.http2 import huffman

_STATIC_TEXT = """\
:authority|,:method|GET,:method|POST,:path|/,:path|/index.html,:scheme|http,:scheme|https,\
:status|200,:status|204,:status|206,:status|304,:status|400,:status|404,:status|500,\
accept-charset|,accept-encoding|gzip; deflate,accept-language|,accept-ranges|,accept|,\
access-control-allow-origin|,age|,allow|,authorization|,cache-control|,content-disposition|,\
content-encoding|,content-language|,content-length|,content-location|,content-range|,\
content-type|,cookie|,date|,etag|,expect|,expires|,from|,host|,if-match|,if-modified-since|,\
if-none-match|,if-range|,if-unmodified-since|,last-modified|,link|,location|,max-forwards|,\
proxy-authenticate|,proxy-authorization|,range|,referer|,refresh|,retry-after|,server|,\
set-cookie|,strict-transport-security|,transfer-encoding|,user-agent|,vary|,via|,\
www-authenticate|"""

Header = tuple[bytes, bytes]

_STATIC: list[Header] = [
    (name.encode(), value.replace(";", ",").encode())
    for name, _, value in (entry.partition("|") for entry in _STATIC_TEXT.split(","))
]
_ENTRY_OVERHEAD = 32
_MAX_TABLE = 4096
_MAX_HEADERS = 65_536
_huffman = lru_cache(maxsize=4096)(huffman.decode)


class HpackError(ValueError):
    """A header block that cannot be decoded; the connection's state is lost with it."""


class Decoder:
    """One connection's decoding state."""

    def __init__(self) -> None:
        self._table: deque[Header] = deque()
        self._size = 0
        self._limit = _MAX_TABLE

    def decode(self, block: bytes) -> list[Header]:
        """Return all headers of a block, in order."""
        try:
            return self._decode(block)
        except (IndexError, huffman.HuffmanError) as error:
            raise HpackError(str(error)) from error

    def _decode(self, block: bytes) -> list[Header]:
        headers: list[Header] = []
        at = total = 0
        end = len(block)
        while at < end:
            byte = block[at]
            if byte & 0x80:
                index, at = _integer(block, at, 7)
                header = self._entry(index)
            elif byte & 0xE0 == 0x20:
                limit, at = _integer(block, at, 5)
                if limit > _MAX_TABLE:
                    raise HpackError("table size above what was offered")
                self._limit = limit
                self._shrink()
                continue
            else:
                keep = bool(byte & 0x40)
                index, at = _integer(block, at, 6 if keep else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = _text(block, at)
                value, at = _text(block, at)
                header = (name, value)
                if keep:
                    self._table.appendleft(header)
                    self._size += len(name) + len(value) + _ENTRY_OVERHEAD
                    self._shrink()
            headers.append(header)
            total += len(header[0]) + len(header[1]) + _ENTRY_OVERHEAD
            if total > _MAX_HEADERS:
                raise HpackError("too many headers")
        return headers

    def _entry(self, index: int) -> Header:
        if index == 0:
            raise HpackError("index 0")
        if index <= len(_STATIC):
            return _STATIC[index - 1]
        return self._table[index - len(_STATIC) - 1]

    def _shrink(self) -> None:
        while self._size > self._limit:
            name, value = self._table.pop()
            self._size -= len(name) + len(value) + _ENTRY_OVERHEAD


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    mask = (1 << bits) - 1
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 28:
            raise HpackError("integer too long")


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    coded = block[at] & 0x80
    length, at = _integer(block, at, 7)
    raw = block[at : at + length]
    if len(raw) < length:
        raise HpackError("text cut short")
    return (_huffman(raw) if coded else raw), at + length


def encode(headers: list[Header]) -> bytes:
    """Return a block of literals that leaves the peer's table alone."""
    out = bytearray()
    for name, value in headers:
        out.append(0)
        _put_text(out, name)
        _put_text(out, value)
    return bytes(out)


def _put_text(out: bytearray, text: bytes) -> None:
    length = len(text)
    if length < 0x7F:
        out.append(length)
    else:
        out.append(0x7F)
        length -= 0x7F
        while length > 0x7F:
            out.append(length & 0x7F | 0x80)
            length >>= 7
        out.append(length)
    out += text
