"""The Huffman code of HPACK (RFC 7541, appendix B), rebuilt from its code lengths.

The code is canonical: within a length, codes ascend with the symbols, so the lengths define it.
"""

from typing import Final

_EOS: Final = 256

_LENGTHS: Final = (
    "13 23 28*7 24 30 28 28 30 28*8 30 28*9 "
    "6 10 10 12 13 6 8 11 10 10 8 11 8 6 6 6 5 5 5 6*7 7 8 15 6 12 10 "
    "13 6 7*22 8 7 8 13 19 13 14 6 "
    "15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7*5 15 11 14 13 28 "
    "20 22 20 20 22 22 22 23 22 23*5 24 23 24 24 22 23 24 23*4 21 22 23 22 23 23 24 "
    "22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23 21 21 22 21 23 22 23 23 20 22*3 23 22 22 23 "
    "26 26 20 19 22 23 22 25 26*3 27 27 26 24 25 19 21 26 27 27 26 27 24 21 21 26 26 28 27*3 "
    "20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 27*5 28 27*5 26 30"
)


def _lengths() -> list[int]:
    lengths: list[int] = []
    for item in _LENGTHS.split():
        length, _, times = item.partition("*")
        lengths += [int(length)] * int(times or 1)
    return lengths


def _codes() -> dict[tuple[int, int], int]:
    """Return symbol by code length and code."""
    codes: dict[tuple[int, int], int] = {}
    code = previous = 0
    lengths = _lengths()
    for symbol in sorted(range(_EOS + 1), key=lambda symbol: (lengths[symbol], symbol)):
        code <<= lengths[symbol] - previous
        previous = lengths[symbol]
        codes[previous, code] = symbol
        code += 1
    return codes


_CODES = _codes()


class HuffmanError(ValueError):
    """The bits are not a valid Huffman-coded text."""


def decode(data: bytes) -> bytes:
    """Return the text behind Huffman-coded bytes."""
    out = bytearray()
    code = length = 0
    codes = _CODES
    for byte in data:
        for shift in (7, 6, 5, 4, 3, 2, 1, 0):
            code = code << 1 | byte >> shift & 1
            length += 1
            symbol = codes.get((length, code)) if length >= 5 else None
            if symbol is not None:
                if symbol == _EOS:
                    raise HuffmanError("end of string inside a text")
                out.append(symbol)
                code = length = 0
        if length > 30:
            raise HuffmanError("no such code")
    # The rest is padding: at most seven bits, all ones.
    if length > 7 or code != (1 << length) - 1:
        raise HuffmanError("bad padding")
    return bytes(out)
