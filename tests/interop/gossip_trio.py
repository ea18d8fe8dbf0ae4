"""
Three members in processes of their own, all neighbours of each other.
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

#: Seconds that a member may take to start, and for one answer.
_STARTS_WITHIN, _ANSWERS_WITHIN = 20.0, 240.0


@frozen(slots=True)
class Spread:
    """
    How C{count} contents of one member came to the other two.

    @ivar seconds: from the first broadcast to the last delivery.
    @ivar lost: contents times members that did not get them.
    """

    count: int
    seconds: float
    lost: int


class MemberProcess:
    """
    One member: L{tests.interop.gossip_member}.

    @ivar peer: its id, in hexadecimal.
    @ivar addresses: where it listens: transport, host and port of each.
    @ivar pid: its process.
    """

    def __init__(self, transport: str) -> None:
        """
        @raise RuntimeError: it did not start.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.interop.gossip_member", transport],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.pid = self._process.pid
        hello = self.answer(_STARTS_WITHIN)
        self.peer: str = hello["peer"]
        self.addresses: list[tuple[int, str, int]] = hello["addresses"]

    def tell(self, **command: Any) -> None:
        """
        A command.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def answer(self, seconds: float = _ANSWERS_WITHIN) -> dict[str, Any]:
        """
        What it says; past C{seconds} it is ended.

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
            raise RuntimeError("a member has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def has_answer(self, seconds: float = 0.2) -> bool:
        """
        Whether it says something within C{seconds}.
        """
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def join(self, others: list[MemberProcess]) -> None:
        """
        Become the neighbour of C{others}.
        """
        self.tell(join=[(other.peer, other.addresses) for other in others])
        self.answer()

    def cpu(self) -> float:
        """
        Seconds that it has run.
        """
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> int:
        """
        Bytes in memory, RSS.
        """
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def signal(self, number: int) -> None:
        """
        Send it a signal.
        """
        self._process.send_signal(number)

    def stop(self) -> None:
        """
        End it.
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
    Three of them; C{with Trio("streams") as trio:}.

    @ivar members: the first one is who speaks.
    """

    def __init__(self, transport: str) -> None:
        """
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
        The first one broadcasts C{count} contents of C{size} bytes.

        @param label: a word that no earlier contents begin with.
        @param quiet: seconds without any after which the rest counts as lost.
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
        As L{spread}, but whoever calls this takes the answers.
        """
        speaker, *others = self.members
        speaker.tell(send=count, size=size, label=label)
        for other in others:
            other.tell(receive=count, label=label, quiet=quiet)

    def stop(self) -> None:
        """
        End all.
        """
        for member in self.members:
            member.stop()
