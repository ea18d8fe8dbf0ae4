"""
Strict bencode (BEP3, "bencoding") with limits. Pure.

Rules: integers and lengths have no leading zeros, and there is no C{-0}. Dictionary
keys are byte strings in strictly ascending order. Nothing follows the value. Every
value therefore has exactly one encoding, and C{encode(decode(x)) == x} for every C{x}
that is accepted. Depth, number of elements and number of digits are limited, which
bounds the work for a hostile datagram of any size.
"""

from __future__ import annotations

from typing import Any, Final

from dtt.errors import DecodeError

#: The deepest nesting of containers. KRPC needs 3, and the value of an item whatever
#: its owner likes; no more than 5 were observed. Guess.
MAX_DEPTH: Final = 16

#: The most strings, integers, lists, dictionaries and keys in one value. The largest
#: real message, 100 peers (libtorrent's maximum) in a C{get_peers} response, has about
#: 125; a packet of one MTU full of peers has 190. docs/protocol/dht.md section 6 asks
#: for a cap.
MAX_ELEMENTS: Final = 256

#: The most digits of an integer: a 64-bit integer, signed or unsigned, needs 20.
MAX_DIGITS: Final = 20

#: The most digits of a length: a datagram has less than 65536 bytes.
MAX_LENGTH_DIGITS: Final = 5

_INTEGER = 0x69
_LIST = 0x6C
_DICTIONARY = 0x64
_END = 0x65
_MINUS = 0x2D
_ZERO = 0x30
_NINE = 0x39


class Encoded(bytes):
    """
    A value that is already bencoded; L{encode} copies it verbatim.
    """

    __slots__ = ()


def decode(data: bytes) -> Any:
    """
    Decode one bencoded value.

    @return: an C{int}, C{bytes}, C{list}, or C{dict} with C{bytes} keys.
    @raise DecodeError: C{data} is not exactly one value within the limits.
    """
    size = len(data)
    position = 0
    elements = MAX_ELEMENTS
    # The enclosing containers of the current one: list items (or None), dictionary
    # entries, and the key whose value is being read. The current container is in items,
    # or in mapping with key and previous (the key before).
    stack: list[tuple[list[Any] | None, dict[bytes, Any], bytes | None]] = []
    items: list[Any] | None = None
    mapping: dict[bytes, Any] = {}
    key: bytes | None = None
    previous: bytes | None = None
    value: Any
    while True:
        if position >= size:
            raise DecodeError("bencode: truncated")
        byte = data[position]
        if _ZERO <= byte <= _NINE:
            colon = data.find(b":", position, position + MAX_LENGTH_DIGITS + 1)
            start = colon + 1
            if colon == position + 1:
                position = start + byte - _ZERO
            else:
                digits = data[position:colon]
                if colon < 0 or not digits.isdigit() or byte == _ZERO:
                    raise DecodeError("bencode: bad length")
                position = start + int(digits)
            if position > size:
                raise DecodeError("bencode: truncated")
            value = data[start:position]
            elements -= 1
            if items is None and stack and key is None:
                if previous is not None and value <= previous:
                    raise DecodeError("bencode: keys not sorted")
                key = value
                continue
        elif byte == _END:
            if not stack or key is not None:
                raise DecodeError("bencode: unexpected end")
            position += 1
            value = mapping if items is None else items
            items, mapping, key = stack.pop()
        else:
            if items is None and stack and key is None:
                raise DecodeError("bencode: bad key")
            elements -= 1
            if byte == _INTEGER:
                end = data.find(b"e", position, position + MAX_DIGITS + 3)
                start = position + 1
                if end > start and data[start] == _MINUS:
                    start += 1
                digits = data[start:end]
                if (
                    end < 0
                    or not digits.isdigit()
                    or end - start > MAX_DIGITS
                    or (data[start] == _ZERO and end - position != 2)
                ):
                    raise DecodeError("bencode: bad integer")
                value = int(data[position + 1 : end])
                position = end + 1
            elif byte in (_DICTIONARY, _LIST):
                if len(stack) >= MAX_DEPTH:
                    raise DecodeError("bencode: too deep")
                if elements < 0:
                    raise DecodeError("bencode: too many elements")
                stack.append((items, mapping, key))
                position += 1
                key = previous = None
                if byte == _LIST:
                    items = []
                else:
                    items = None
                    mapping = {}
                continue
            else:
                raise DecodeError("bencode: bad type")
        if elements < 0:
            raise DecodeError("bencode: too many elements")
        if items is not None:
            items.append(value)
        elif stack:
            assert key is not None
            mapping[key] = value
            previous = key
            key = None
        else:
            break
    if position != size:
        raise DecodeError("bencode: trailing bytes")
    return value


def _write(value: Any, out: list[bytes]) -> None:
    kind = type(value)
    if kind is bytes:
        out.append(b"%d:" % len(value))
        out.append(value)
    elif kind is int:
        out.append(b"i%de" % value)
    elif kind is Encoded:
        out.append(value)
    elif kind is dict:
        out.append(b"d")
        for key in sorted(value):
            out.append(b"%d:" % len(key))
            out.append(key)
            _write(value[key], out)
        out.append(b"e")
    elif kind is list:
        out.append(b"l")
        for item in value:
            _write(item, out)
        out.append(b"e")
    else:
        raise TypeError(f"can't be bencoded: {kind.__name__}")


def encode(value: Any) -> bytes:
    """
    Encode an C{int}, C{bytes}, C{list}, C{dict} with C{bytes} keys, or L{Encoded}, at
    any depth.

    @raise TypeError: C{value} contains another type.
    """
    if type(value) is bytes:
        return b"%d:%b" % (len(value), value)
    out: list[bytes] = []
    _write(value, out)
    return b"".join(out)
