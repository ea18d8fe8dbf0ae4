"""
Three members in separate processes, all neighbours of each other.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

from attrs import frozen

#: Timeouts in seconds for the start of a member, and for one answer.
_STARTS_WITHIN, _ANSWERS_WITHIN = 20.0, 240.0


@frozen(slots=True)
class Spread:
    """
    The delivery of C{count} contents from one member to the other two.

    @ivar seconds: from the first broadcast to the last delivery.
    @ivar lost: undelivered contents, summed over the members.
    """

    count: int
    seconds: float
    lost: int


class MemberProcess:
    """
    One member: L{tests.interop.gossip_member}.

    @ivar peer: its id in hex.
    @ivar addresses: the transport, host and port of each of its addresses.
    @ivar pid: its process id.
    """

    def __init__(self, transport: str, host: str = "127.0.0.1") -> None:
        """
        Start the process.

        @raise RuntimeError: it did not start.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.interop.gossip_member", transport, host],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.pid = self._process.pid
        hello = self.answer(_STARTS_WITHIN)
        self.peer: str = hello["peer"]
        self.addresses: list[tuple[int, str, int]] = hello["addresses"]

    def send_command(self, **command: Any) -> None:
        """
        Send a command.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def answer(self, seconds: float = _ANSWERS_WITHIN) -> dict[str, Any]:
        """
        Wait for its answer; after C{seconds} it is killed.

        @raise RuntimeError: it has ended.
        """
        assert self._process.stdout is not None
        watchdog = threading.Timer(seconds, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise RuntimeError("a member stopped early")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def has_answer(self, seconds: float = 0.2) -> bool:
        """
        Does an answer arrive within C{seconds}?
        """
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def join(self, others: list[MemberProcess]) -> None:
        """
        Become the neighbour of C{others}.
        """
        self.send_command(join=[(other.peer, other.addresses) for other in others])
        self.answer()

    def longest_turn(self) -> float:
        """
        The longest turn of its reactor since the last call, in seconds of CPU time.
        """
        self.send_command(watch=True)
        return float(self.answer()["turn"])

    def cpu(self) -> float:
        """
        The CPU time of the process, in seconds.
        """
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> int:
        """
        The RSS of the process, in bytes.
        """
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def signal(self, number: int) -> None:
        """
        Send a signal to the process.
        """
        self._process.send_signal(number)

    def stop(self) -> None:
        """
        Stop the process.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Trio:
    """
    Three members; C{with Trio("streams") as trio:}.

    @ivar members: the members; the first one sends.
    """

    def __init__(self, transport: str) -> None:
        """
        Start the members.

        @param transport: C{streams} or C{iroh}.
        @raise RuntimeError: they did not start.
        """
        self.members: list[MemberProcess] = []
        try:
            for _ in range(3):
                newcomer = MemberProcess(transport)
                self.members.append(newcomer)
                newcomer.join(self.members[:-1])
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def spread(self, count: int, size: int, label: str, quiet: float = 3.0) -> Spread:
        """
        Let the first member broadcast C{count} contents of C{size} bytes, and wait for
        the result.

        @param label: a word that no earlier contents begin with.
        @param quiet: seconds without a content after which the rest counts as lost.
        """
        self.begin(count, size, label, quiet)
        speaker, *others = self.members
        sent = speaker.answer()
        got = [other.answer() for other in others]
        return Spread(
            count=count,
            seconds=max(each["last"] for each in got) - sent["started"],
            lost=sum(count - each["received"] for each in got),
        )

    def begin(self, count: int, size: int, label: str, quiet: float) -> None:
        """
        As L{spread}, but the caller has to read the answers.
        """
        speaker, *others = self.members
        speaker.send_command(send=count, size=size, label=label)
        for other in others:
            other.send_command(receive=count, label=label, quiet=quiet)

    def stop(self) -> None:
        """
        Stop all members.
        """
        for member in self.members:
            member.stop()
