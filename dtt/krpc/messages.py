"""
KRPC messages (BEP5, "KRPC Protocol"): encoding and decoding. Pure.

Rules: our messages have a C{t} and a C{v} of exactly 4 bytes and sorted keys, and our
replies have the C{ip} of the querier (BEP42); mainline drops anything else
(docs/protocol/dht.md section 2). Messages from others may have a C{t} of 1 to 32 bytes,
which is echoed, and deviate from bencode where libtorrent allows it
(L{dtt.krpc.bencode.decode_message}). A query with a valid C{t} can be answered, so its
other faults are left to the responder (error 203). A response without an id is useless
and is rejected here. An error is one whatever it contains.

Almost all messages that a node receives are queries of a few shapes. Each shape is
recognised by a regular expression, ten times as fast as by the decoder and with the
same result. Any deviation is left to the decoder.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

from dtt.errors import DecodeError
from dtt.krpc.bencode import decode_message
from dtt.krpc.bencode import encode as bencode
from dtt.wire.values import frozen

#: Our C{v}: two letters for the client and two bytes for its version (BEP5's
#: convention; C{DT} is in no known list).
VERSION: Final = b"DT\x00\x01"

#: Bytes of our transaction ids (docs/protocol/dht.md section 2).
TRANSACTION_SIZE: Final = 4

#: The most bytes of a transaction id that we echo; the longest observed has 20. Guess.
MAX_TRANSACTION_SIZE: Final = 32

#: The most bytes of a datagram. The largest useful one, a 1000-byte item with nodes and
#: nodes6, has about 1700; mainline reads 2048. This is double that.
MAX_DATAGRAM: Final = 4096

#: The most characters kept of an error's text, as in L{dtt.errors.QueryRefused}.
MAX_ERROR_TEXT: Final = 100

#: Error codes: of BEP5, and from 205 on of BEP44.
GENERIC_ERROR: Final = 201
SERVER_ERROR: Final = 202
PROTOCOL_ERROR: Final = 203
METHOD_UNKNOWN: Final = 204
VALUE_TOO_BIG: Final = 205
INVALID_SIGNATURE: Final = 206
SALT_TOO_BIG: Final = 207
CAS_MISMATCH: Final = 301
SEQ_TOO_LOW: Final = 302

#: All error codes above.
CODES: Final = frozenset((*range(GENERIC_ERROR, SALT_TOO_BIG + 1), CAS_MISMATCH, SEQ_TOO_LOW))

_V = b"1:v4:" + VERSION

# The fixed parts of a response; see L{encode_answer}.
_IP: Final = {size: b"d2:ip%d:" % size for size in (6, 18)}
_ID: Final = b"1:rd2:id20:"
_T: Final = {size: b"e1:t%d:" % size for size in range(1, MAX_TRANSACTION_SIZE + 1)}
_END_OF_ANSWER: Final = _V + b"1:y1:re"

# The common queries. All lengths are fixed or checked afterwards, so a match has a
# single interpretation, the decoder's.
_NUMBER = rb"(0|[1-9]\d{0,18})"
_END = rb"(?:2:roi([01])e)?1:t(2:.{2}|4:.{4})(?:1:v4:(.{4}))?1:y1:qe"
_READ = re.compile(
    rb"d1:ad2:id20:(.{20})"
    rb"(?:9:info_hash20:(.{20})|(?:3:seqi" + _NUMBER + rb"e)?6:target20:(.{20}))?"
    rb"(?:4:want(l2:n4e|l2:n6e|l2:n42:n6e))?"
    rb"e1:q(4:ping|9:find_node|9:get_peers|3:get)" + _END,
    re.DOTALL,
)
_PUT = re.compile(
    rb"d1:ad(?:3:casi" + _NUMBER + rb"e)?2:id20:(.{20})1:k32:(.{32})"
    rb"(?:4:salt([1-9]\d?):(.{1,64}?))?3:seqi" + _NUMBER + rb"e3:sig64:(.{64})"
    rb"(?:6:target20:(.{20}))?5:token8:(.{8})1:v([1-9]\d{0,2}):",
    re.DOTALL,
)
_PUT_END = re.compile(rb"e1:q3:put" + _END, re.DOTALL)


@frozen(slots=True, weakref_slot=False)
class Query:
    """
    A query.

    @ivar transaction: C{t}, 1 to 32 bytes, to be echoed.
    @ivar method: C{q}; C{b""} if it is missing or not a byte string.
    @ivar node_id: the sender's id, 20 bytes; C{b""} if it is missing or invalid. Such a
        query is answered with error 203.
    @ivar arguments: C{a} without C{id}; empty if missing. The values may have any type.
    @ivar read_only: the sender answers no queries (BEP43, C{ro}).
    @ivar version: C{v}; C{b""} if absent.
    """

    transaction: bytes
    method: bytes
    node_id: bytes
    arguments: dict[bytes, Any]
    read_only: bool
    version: bytes


@frozen(slots=True)
class Response:
    """
    A response to a query.

    @ivar transaction: C{t}, 1 to 32 bytes.
    @ivar node_id: the sender's id, 20 bytes.
    @ivar values: C{r} without C{id}. The values may have any type.
    @ivar version: C{v}; C{b""} if absent.
    @ivar ip: our compact address and port as the sender sees them, 6 or 18 bytes
        (BEP42), or C{None}.
    """

    transaction: bytes
    node_id: bytes
    values: dict[bytes, Any]
    version: bytes
    ip: bytes | None


@frozen(slots=True)
class Error:
    """
    An error reply to a query.

    @ivar transaction: C{t}, 1 to 32 bytes.
    @ivar code: the error code, for instance 203; 201 (L{GENERIC_ERROR}) if it has none.
    @ivar text: at most L{MAX_ERROR_TEXT} characters.
    @ivar version: C{v}; C{b""} if absent.
    """

    transaction: bytes
    code: int
    text: str
    version: bytes


Message: TypeAlias = Query | Response | Error


def decode(data: bytes) -> Message:
    """
    Decode a datagram.

    @raise DecodeError: the datagram is neither a query that can be answered, nor a
        response with an id, nor an error.
    """
    if len(data) > MAX_DATAGRAM:
        raise DecodeError("too large")
    common = _common_read(data) or _common_put(data)
    if common is not None:
        return common
    message = decode_message(data)
    if type(message) is not dict:
        raise DecodeError("not a dictionary")
    transaction = message.get(b"t")
    if type(transaction) is not bytes or not 0 < len(transaction) <= MAX_TRANSACTION_SIZE:
        raise DecodeError("bad transaction")
    version = message.get(b"v")
    if type(version) is not bytes:
        version = b""
    kind = message.get(b"y")
    if kind == b"q":
        return _query(message, transaction, version)
    if kind == b"r":
        return _response(message, transaction, version)
    if kind == b"e":
        return _error(message, transaction, version)
    raise DecodeError("bad message type")


def _common_read(data: bytes) -> Query | None:
    match = _READ.fullmatch(data)
    if match is None:
        return None
    node_id, info_hash, seq, target, want, method, read_only, transaction, version = match.groups()
    arguments: dict[bytes, Any] = {}
    if target is not None:
        arguments[b"target"] = target
        if seq is not None:
            arguments[b"seq"] = int(seq)
    elif info_hash is not None:
        arguments[b"info_hash"] = info_hash
    if want is not None:
        arguments[b"want"] = decode_message(want)
    return Query(transaction[2:], method[2:], node_id, arguments, read_only == b"1", version or b"")


def _common_put(data: bytes) -> Query | None:
    match = _PUT.match(data)
    if match is None:
        return None
    cas, node_id, key, salt_size, salt, seq, signature, target, token, size = match.groups()
    start = match.end()
    end = start + int(size)
    match = _PUT_END.fullmatch(data, end)
    if match is None or (salt is not None and len(salt) != int(salt_size)):
        return None
    read_only, transaction, version = match.groups()
    arguments = {b"k": key, b"seq": int(seq), b"sig": signature, b"token": token, b"v": data[start:end]}
    if salt is not None:
        arguments[b"salt"] = salt
    if cas is not None:
        arguments[b"cas"] = int(cas)
    if target is not None:
        arguments[b"target"] = target
    return Query(transaction[2:], b"put", node_id, arguments, read_only == b"1", version or b"")


def _query(message: dict[bytes, Any], transaction: bytes, version: bytes) -> Query:
    method = message.get(b"q")
    if type(method) is not bytes:
        method = b""
    arguments = message.get(b"a")
    if type(arguments) is not dict:
        arguments = {}
    node_id = arguments.pop(b"id", None)
    if type(node_id) is not bytes or len(node_id) != 20:
        node_id = b""
    return Query(transaction, method, node_id, arguments, message.get(b"ro") == 1, version)


def _response(message: dict[bytes, Any], transaction: bytes, version: bytes) -> Response:
    values = message.get(b"r")
    if type(values) is not dict:
        raise DecodeError("bad response")
    node_id = values.pop(b"id", None)
    if type(node_id) is not bytes or len(node_id) != 20:
        raise DecodeError("bad response id")
    ip = message.get(b"ip")
    if type(ip) is not bytes or len(ip) not in (6, 18):
        ip = None
    return Response(transaction, node_id, values, version, ip)


def _error(message: dict[bytes, Any], transaction: bytes, version: bytes) -> Error:
    content = message.get(b"e")
    if type(content) is not list:
        content = [content]
    code = next((each for each in content if type(each) is int), GENERIC_ERROR)
    text: bytes = next((each for each in content if type(each) is bytes), b"")
    words = text[: 4 * MAX_ERROR_TEXT].decode("utf-8", "replace")[:MAX_ERROR_TEXT]
    return Error(transaction, code, words, version)


def encode_query(
    transaction: bytes,
    method: bytes,
    node_id: bytes,
    arguments: dict[bytes, Any],
    read_only: bool,
) -> bytes:
    """
    Encode a query.

    @param transaction: L{TRANSACTION_SIZE} bytes.
    @param arguments: without C{id}.
    @param read_only: announce that we answer no queries (BEP43).
    """
    return b"d1:a%b1:q%d:%b%b1:t%d:%b%b1:y1:qe" % (
        bencode({**arguments, b"id": node_id}),
        len(method),
        method,
        b"2:roi1e" if read_only else b"",
        len(transaction),
        transaction,
        _V,
    )


def encode_response(transaction: bytes, node_id: bytes, values: dict[bytes, Any], ip: bytes | None) -> bytes:
    """
    Encode a response.

    @param transaction: the query's, 1 to 32 bytes.
    @param values: without C{id}. An L{Encoded<dtt.krpc.bencode.Encoded>} is copied
        verbatim.
    @param ip: the querier's compact address, 6 or 18 bytes (BEP42), or C{None}.
    """
    return b"d%b1:r%b1:t%d:%b%b1:y1:re" % (
        b"2:ip%d:%b" % (len(ip), ip) if ip else b"",
        bencode({**values, b"id": node_id}),
        len(transaction),
        transaction,
        _V,
    )


def encode_answer(transaction: bytes, node_id: bytes, entries: bytes, ip: bytes) -> bytes:
    """
    Encode a response, as L{encode_response} does, from entries that are already
    bencoded.

    @param transaction: the query's, 1 to 32 bytes.
    @param entries: the keys and values that follow C{id}, in order.
    @param ip: the querier's compact address, 6 or 18 bytes.
    """
    return b"".join(
        (_IP[len(ip)], ip, _ID, node_id, entries, _T[len(transaction)], transaction, _END_OF_ANSWER)
    )


def encode_error(transaction: bytes, code: int, text: str, ip: bytes | None) -> bytes:
    """
    Encode an error reply.

    @param transaction: the query's, 1 to 32 bytes.
    @param ip: the querier's compact address, 6 or 18 bytes (BEP42), or C{None}.
    """
    words = text.encode("utf-8")
    return b"d1:eli%de%d:%be%b1:t%d:%b%b1:y1:ee" % (
        code,
        len(words),
        words,
        b"2:ip%d:%b" % (len(ip), ip) if ip else b"",
        len(transaction),
        transaction,
        _V,
    )
