"""
The exception hierarchy.

L{LocalError} is a problem of the caller, its files or this machine.  L{RemoteError} means that a node or peer
misbehaved or did not answer.  Errors of the caller are also C{ValueError}s and are raised by the
call itself.  Errors of peers are counted; the application sees them only as
the failure of an operation that it requested.
"""

from __future__ import annotations

import errno


class DTTError(Exception):
    """
    Base class of all exceptions that dtt raises deliberately.
    """


class LocalError(DTTError):
    """
    A problem of the caller, its files or this machine; a retry does not help.
    """


class UsageError(LocalError, ValueError):
    """
    An option, a setting or an argument is invalid.  The message names it and
    says what was expected.
    """


class WrongType(UsageError, TypeError):
    """
    An argument or a setting has a wrong type.
    """


class NotNeighbor(UsageError):
    """
    The peer is not a direct neighbour now; nothing was sent.
    """


class StateError(LocalError):
    """
    The state directory, a key file or a secret file can't be used: its mode is
    too permissive, or it is unreadable, damaged, or in use by another process.
    The message says what to do.
    """


class ListenError(LocalError):
    """
    An address can't be bound, usually because another program listens on it.

    @ivar reason: the same as C{str()}, without advice.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        """
        @param message: what can't be bound, why, and what to do.
        @param reason: the same without advice; C{None}: C{message} contains no advice.
        """
        super().__init__(message)
        self.reason = message if reason is None else reason

    @classmethod
    def of(cls, where: str, error: object, port: str = "port") -> ListenError:
        """
        Make the exception for an address that could not be bound.

        @param where: the address, for example C{"UDP 127.0.0.1 port 6881"}.
        @param error: an C{OSError}, or the reason as text.
        @param port: the name of the setting to change if the address is in use.
        """
        reason = f"can't listen on {where}: {getattr(error, 'strerror', None) or error}"
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        advice = f"; choose another {port}, or 0 for any" if taken else ""
        return cls(f"{reason}{advice}", reason)


class ContentTooLarge(UsageError):
    """
    The content of a message or record exceeds the size limit; nothing was sent.
    """


class DuplicateContent(UsageError):
    """
    The same bytes were broadcast or received within the last 90 s, and the
    swarm would drop them as a duplicate; nothing was sent.  Make each message
    unique, for example with a counter.
    """


class AlreadyJoined(UsageError):
    """
    The tracker has already joined this topic.
    """


class TopicLeft(LocalError):
    """
    The topic was left or its tracker has stopped; it can no longer be used.
    """


class RemoteError(DTTError):
    """
    A node or peer misbehaved or did not answer.
    """


class DecodeError(RemoteError):
    """
    Bytes from the network are malformed.  C{str()} is a short reason, identical
    for identical faults, so that it can serve as a counter key.
    """


class RecordRefused(RemoteError):
    """
    An encrypted record is invalid.

    @ivar stage: the step that failed: C{"parse"}, C{"decrypt"} or C{"verify"}.
    @ivar reason: what is counted: C{"length"}, C{"decrypt"}, C{"signature"},
        C{"topic"} or C{"minute"}.
    """

    def __init__(self, stage: str, reason: str) -> None:
        """
        @param stage: the step that failed.
        @param reason: what is counted.
        """
        super().__init__(stage, reason)
        self.stage = stage
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"


class EnvelopeRefused(RemoteError):
    """
    A message of a signed topic was refused.

    @ivar reason: C{"not signed"}, C{"bad signature"}, C{"time"}, C{"replay"} or
        C{"too many authors"}.
    @ivar author: the peer id of the claimed author, 32 bytes, not proved if the signature is bad; C{None} if
        it is not signed.
    @ivar ahead: if the reason is C{"time"}, the number of seconds by which its time is ahead of ours
        (negative: behind); otherwise C{None}.
    """

    def __init__(self, reason: str, author: bytes | None = None, ahead: float | None = None) -> None:
        """
        @param reason: see the class.
        @param author: see the class.
        @param ahead: see the class.
        """
        super().__init__(reason, author, ahead)
        self.reason = reason
        self.author = author
        self.ahead = ahead

    def __str__(self) -> str:
        return self.reason


class QueryTimeout(RemoteError):
    """
    A DHT node did not answer in time.
    """


class QueryRefused(RemoteError):
    """
    A DHT node answered with a KRPC error (BEP5, "Errors").

    @ivar code: the error code, for example 301.
    @ivar text: the node's error message, at most 100 characters.
    """

    def __init__(self, code: int, text: str) -> None:
        """
        @param code: the error code.
        @param text: the node's error message.
        """
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class LookupFailed(RemoteError):
    """
    No DHT node answered an operation.  It is unknown whether there is an item at the target.
    """


class DialFailed(RemoteError):
    """
    No authenticated connection to a peer could be established; C{str()} is the
    reason.
    """


class NoRoom(DialFailed):
    """
    A peer was not dialled, or its connection was closed, because this member has too
    many connections.  This is not a fault of the peer.
    """


class StreamRefused(RemoteError):
    """
    A member refused an application stream: it does not serve the name, shares no topic with us, or has too
    many streams.  Or its connection ended meanwhile.  C{str()} is the reason.
    """


class PublishFailed(RemoteError):
    """
    Our addresses could not be published in a store.  C{str()} is a short reason,
    identical for identical faults.

    @ivar newer_seq: the sequence number of one of our packets that the store already has and that takes
        precedence; C{None} for other reasons.
    @ivar retry_after: seconds to wait before a retry, as requested by the
        store, or C{None}.
    """

    def __init__(self, reason: str, newer_seq: int | None = None, retry_after: float | None = None) -> None:
        """
        @param reason: a short reason.
        @param newer_seq: see the class.
        @param retry_after: see the class.
        """
        super().__init__(reason)
        self.newer_seq = newer_seq
        self.retry_after = retry_after
