"""
The exception hierarchy.

L{LocalError} means that the caller, its files or this machine must change
something; L{RemoteError} means that a node or peer misbehaved or did not
answer.  Errors of the caller are also C{ValueError}s and are raised by the
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
    Something on this side is wrong; a retry does not help.
    """


class UsageError(LocalError, ValueError):
    """
    An option, a setting or an argument is invalid.  The message names it and
    says what was expected.
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
    """

    @classmethod
    def of(cls, where: str, error: object, port: str = "port") -> ListenError:
        """
        Make the exception for an address that could not be bound.

        @param where: the address, for example C{"UDP 127.0.0.1 port 6881"}.
        @param error: an C{OSError}, or the reason as text.
        @param port: what to choose another one of if the address is in use.
        """
        reason = getattr(error, "strerror", None) or error
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        advice = f"; choose another {port}, or 0 for any" if taken else ""
        return cls(f"can't listen on {where}: {reason}{advice}")


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


class DialFailed(RemoteError):
    """
    No authenticated connection to a peer could be established; C{str()} is the
    reason.
    """


class PublishFailed(RemoteError):
    """
    Our addresses could not be published in a store.  C{str()} is a short reason,
    identical for identical faults.

    @ivar newer_seq: the sequence number of a packet of ours that the store
        already has and that takes precedence; C{None} if the reason is another.
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
