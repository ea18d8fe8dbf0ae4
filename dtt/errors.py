"""
The one exception tree.

Two branches: L{LocalError}, where the caller, its files or this machine must
change something, and L{RemoteError}, where somebody on the network misbehaved
or did not answer.  What a caller did wrong is also a L{ValueError} and is
raised at the call.  What a peer did wrong is counted and does not reach the
application, except as the failure of something that it asked for.
"""

from __future__ import annotations

import errno


class DTTError(Exception):
    """
    Everything that dtt raises on purpose.
    """


class LocalError(DTTError):
    """
    Something on this side is wrong; trying again changes nothing.
    """


class UsageError(LocalError, ValueError):
    """
    An option, a setting or an argument is wrong; the message names it and
    says what was expected.
    """


class StateError(LocalError):
    """
    The state directory or a key file can't be used: wrong mode, unreadable,
    damaged, or in use by another process.  The message says what to do.
    """


class ListenError(LocalError):
    """
    An address can't be bound, usually because something else listens there.
    """

    @classmethod
    def of(cls, where: str, error: object, port: str = "port") -> ListenError:
        """
        What the system says, in our words.

        @param where: for instance C{"UDP 127.0.0.1 port 6881"}.
        @param error: an L{OSError}, or a text.
        @param port: another one of what helps if this one is taken.
        """
        reason = getattr(error, "strerror", None) or error
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        advice = f"; choose another {port}, or 0 for any" if taken else ""
        return cls(f"can't listen on {where}: {reason}{advice}")


class ContentTooLarge(UsageError):
    """
    A message or record is larger than every member could forward; nothing was
    sent.
    """


class DuplicateContent(UsageError):
    """
    The same bytes were broadcast or received within the last 90 s: the swarm
    would drop them as a duplicate; nothing was sent.  Make contents unique.
    """


class AlreadyJoined(UsageError):
    """
    The tracker takes part in this topic already.
    """


class TopicLeft(LocalError):
    """
    The topic was left, or its tracker stopped; it can't be used any more.
    """


class RemoteError(DTTError):
    """
    Somebody on the network misbehaved or did not answer.
    """


class DecodeError(RemoteError):
    """
    Bytes from the network are not what they must be.  C{str()} is a short
    reason that is the same for equal faults, so that it can be counted.
    """


class RecordRefused(RemoteError):
    """
    An encrypted record can't be used.

    @ivar stage: C{"parse"}, C{"decrypt"} or C{"verify"}.
    @ivar reason: the counter's name: C{"length"}, C{"decrypt"},
        C{"signature"}, C{"topic"}, C{"minute"}, ...
    """

    def __init__(self, stage: str, reason: str) -> None:
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

    @ivar code: the number, for instance 301.
    @ivar text: at most 100 characters of the node's words.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class DialFailed(RemoteError):
    """
    No authenticated connection to a peer could be made; C{str()} says why.
    """


class PublishFailed(RemoteError):
    """
    Our addresses could not be published somewhere; C{str()} is a short reason
    that is the same for equal faults.

    @ivar newer_seq: a packet of ours with this sequence number is there
        already; L{None}: that is not the reason.
    @ivar retry_after: seconds for which we are asked to wait, or L{None}.
    """

    def __init__(self, reason: str, newer_seq: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.newer_seq = newer_seq
        self.retry_after = retry_after
