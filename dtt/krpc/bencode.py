"""
Bencode (BEP3, "bencoding") with limits. Pure.

Rules: integers and lengths have no leading zeros, and there is no C{-0}. Dictionary
keys are byte strings in strictly ascending order. Nothing follows the value. Every
value therefore has exactly one encoding, and C{encode(decode(x)) == x} for every C{x}
that is accepted. Depth, number of elements and number of digits are limited, which
bounds the work for a hostile datagram of any size.

Messages of others are read more leniently, as libtorrent does, because ignoring them would lose nodes:
L{decode_message}.  The limits are the same.
"""

from __future__ import annotations

from typing import Any, Final

from dtt.errors import DecodeError

#: The deepest nesting of containers. KRPC needs 3, and the value of an item whatever
#: its owner likes; no more than 5 were observed. Guess.
MAX_DEPTH: Final = 16

#: The most strings, integers, lists, dictionaries and keys in one value: as in
#: libtorrent. The largest real message, 100 peers (libtorrent's maximum) in a
#: C{get_peers} response, has about 125; a packet of one MTU full of peers has 190.
#: docs/protocol/dht.md section 6 asks for a cap.
MAX_ELEMENTS: Final = 500

#: The most digits of an integer: a 64-bit integer, signed or unsigned, needs 20.
MAX_DIGITS: Final = 20

#: The most digits of a length: a datagram has less than 65536 bytes.
MAX_LENGTH_DIGITS: Final = 5

# The message, and its arguments or results. In these, keys may have any order.
_OUTER_LEVELS = 2

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

    L{decode_message} returns what has another encoding than ours as such a value: the
    signature and the target of an item cover the bytes that were sent.
    """

    __slots__ = ()


def decode(data: bytes) -> Any:
    """
    Decode one bencoded value.

    @return: an C{int}, C{bytes}, C{list}, or C{dict} with C{bytes} keys.
    @raise DecodeError: C{data} is not exactly one value within the limits.
    """
    return _decode(data, False)


def decode_message(data: bytes) -> Any:
    """
    Decode a message, or a value in one, leniently.

    In a message and in the dictionaries directly in it, keys may have any order; of
    equal ones the first counts. Within these, an integer or a length may have leading
    zeros, an integer any number of digits, and a dictionary any order: each of them is
    returned as L{Encoded}. Bytes after the message are ignored if the last one is C{e}.

    @return: as L{decode}, or L{Encoded}.
    @raise DecodeError: C{data} does not begin with a value within the limits.
    """
    return _decode(data, True)


def _decode(data: bytes, lenient: bool) -> Any:
    size = len(data)
    position = 0
    elements = MAX_ELEMENTS
    # The enclosing containers of the current one: list items (or None), dictionary
    # entries, the key whose value is being read, where the container begins, and whether
    # its keys are unsorted. The current container is in items, or in mapping with key
    # and previous (the key before).
    stack: list[tuple[list[Any] | None, dict[bytes, Any], bytes | None, int, bool]] = []
    begin = 0
    unsorted = False
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
            padded = None
            if colon == position + 1:
                position = start + byte - _ZERO
            else:
                digits = data[position:colon]
                if colon < 0 or not digits.isdigit() or (byte == _ZERO and not lenient):
                    raise DecodeError("bencode: bad length")
                if byte == _ZERO:
                    padded = position
                position = start + int(digits)
            if position > size:
                raise DecodeError("bencode: truncated")
            value = data[start:position]
            elements -= 1
            if items is None and stack and key is None:
                if padded is not None or (previous is not None and value <= previous):
                    if not lenient:
                        raise DecodeError("bencode: keys not sorted")
                    unsorted = True
                key = value
                continue
            if padded is not None:
                value = Encoded(data[padded:position])
        elif byte == _END:
            if not stack or key is not None:
                raise DecodeError("bencode: unexpected end")
            position += 1
            value = mapping if items is None else items
            if unsorted and len(stack) > _OUTER_LEVELS:
                value = Encoded(data[begin:position])
            items, mapping, key, begin, unsorted = stack.pop()
        else:
            if items is None and stack and key is None:
                raise DecodeError("bencode: bad key")
            elements -= 1
            if byte == _INTEGER:
                end = data.find(b"e", position, size if lenient else position + MAX_DIGITS + 3)
                start = position + 1
                if end > start and data[start] == _MINUS:
                    start += 1
                if end < 0 or not data[start:end].isdigit():
                    raise DecodeError("bencode: bad integer")
                if end - start > MAX_DIGITS or (data[start] == _ZERO and end - position != 2):
                    if not lenient:
                        raise DecodeError("bencode: bad integer")
                    value = Encoded(data[position : end + 1])
                else:
                    value = int(data[position + 1 : end])
                position = end + 1
            elif byte in (_DICTIONARY, _LIST):
                if len(stack) >= MAX_DEPTH:
                    raise DecodeError("bencode: too deep")
                if elements < 0:
                    raise DecodeError("bencode: too many elements")
                stack.append((items, mapping, key, begin, unsorted))
                begin = position
                position += 1
                key = previous = None
                unsorted = False
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
            if not unsorted or key not in mapping:
                mapping[key] = value
            previous = key
            key = None
        else:
            break
    if position != size and not (lenient and data[-1] == _END):
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
