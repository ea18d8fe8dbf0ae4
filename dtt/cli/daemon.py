"""
Code shared by the commands that use the running service (C{dtt run}, C{twistd dtt}).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred

from dtt.app.options import TopicSettings, default_state_dir, topic_to_join
from dtt.cli.commands import NO_SERVICE
from dtt.cli.complaints import report
from dtt.cli.running import run_coroutine
from dtt.errors import LocalError, StateError, UsageError
from dtt.files import reason_of, shown
from dtt.records.topic import TopicId
from dtt.state import absolute
from dtt.web.client import DaemonClient, NoDaemon, Refused

#: The minimum length of a prefix of a topic id, in hexadecimal digits.
MIN_PREFIX = 6


def state_directory(given: str | None) -> Path:
    """
    Return the state directory of the service.

    @param given: the value of C{--state-dir}; C{None}: the default.
    @raise StateError: there is no home directory.
    """
    path = default_state_dir(os.environ) if given is None else Path(given)
    if path is None:
        raise StateError("there is no home directory for the state; give --state-dir DIR")
    return absolute(path)


@frozen(slots=True)
class JoinedTopic:
    """
    A topic that the service has joined.

    @ivar topic_id: its id, 32 bytes.
    @ivar label: its name for people.
    """

    topic_id: bytes
    label: str


def joined_topics(status: dict[str, Any]) -> list[JoinedTopic]:
    """
    Return the topics in a snapshot of the service.
    """
    return [JoinedTopic(bytes.fromhex(each["topic_id"]), each["label"]) for each in status["topics"]]


def choose(joined: Sequence[JoinedTopic], name: str | None, tickets: Sequence[TopicSettings]) -> JoinedTopic:
    """
    Find the topic that a command is about.

    @param joined: the topics of the service.
    @param name: the name of a topic, its label, its id with or without C{hex:}, or the
        beginning of that; C{None}: not given.
    @param tickets: the topics of tickets; the first one counts.
    @raise LocalError: the service has not joined it, or several topics match.
    """
    known = ", ".join(each.label for each in joined) or "none"
    if tickets:
        found = [each for each in joined if each.topic_id == tickets[0].topic_id]
        name = tickets[0].name
    elif name is None:
        if len(joined) != 1:
            raise UsageError(f"name the topic with --topic or --ticket-file; the service has joined {known}")
        found = list(joined)
    else:
        found = _named(joined, name)
    if len(found) != 1:
        what = "several topics" if found else "no topic"
        raise LocalError(f"the service has joined {what} called {name!r}; it has joined {known}")
    return found[0]


def _named(joined: Sequence[JoinedTopic], name: str) -> list[JoinedTopic]:
    prefix = name.removeprefix("hex:").lower()
    if MIN_PREFIX <= len(prefix) <= 64 and all(each in "0123456789abcdef" for each in prefix):
        found = [each for each in joined if each.topic_id.hex().startswith(prefix)]
        if found:
            return found
    topic_id: TopicId = topic_to_join(name)
    return [each for each in joined if each.topic_id == topic_id or each.label == name]


def run_with_daemon(given: str | None, job: Callable[[Any, DaemonClient], Awaitable[int]]) -> int:
    """
    Run a job that uses the service.  A signal cancels it.  A job that runs until then must not raise
    C{CancelledError}.

    @param given: the value of C{--state-dir}; C{None}: the default.
    @param job: called with the reactor and the client.
    @return: the exit code: that of the job, or 4 without a service.
    """
    path = state_directory(given)

    async def work(reactor: Any) -> int:
        try:
            if (problem := _problem_of(path)) is not None:
                raise NoDaemon(
                    f"no daemon is running with the state directory {shown(path)}: it {problem}; "
                    "give --state-dir, or set $DTT_STATE_DIR"
                )
            return await job(reactor, DaemonClient(reactor, path))
        except NoDaemon as error:
            report(error)
            return NO_SERVICE
        except Refused as error:
            raise LocalError(str(error)) from None

    return run_coroutine(work)


def _problem_of(path: Path) -> str | None:
    """
    Return why a path is not that of a directory that we can use; C{None}: it is.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"can't be used: {reason_of(error)}"
    return None if stat.S_ISDIR(mode) else "is not a directory"


async def until_stopped(waiting: Deferred[Any]) -> bool:
    """
    Wait for a Deferred, unless a signal cancels it.

    @return: whether it fired; false: a signal cancelled it.
    """
    try:
        await waiting
    except CancelledError:
        return False
    return True
