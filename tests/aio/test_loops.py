"""
Tests for L{dtt.aio.loops}, and for L{dtt.aio} as a whole: programs in separate processes, which use the
loopback interface, in Python's development mode.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import dtt
from dtt.aio.loops import acquire, release
from tests.sweeps import thorough

#: Two members that meet and talk; the port of each is a word of the command line.
MEETING = """
import asyncio, os, sys
from dtt import Config, aio
from dtt.config import DHTConfig

def config(one, other):
    dht = DHTConfig(port=one, bind="127.0.0.1", bootstrap=(("127.0.0.1", other),))
    return Config(transport="streams", listen=("127.0.0.1", 0), dht=dht)

async def meet():
    one, other = map(int, sys.argv[1:])
    async with aio.tracker(config(one, other)) as a, aio.tracker(config(other, one)) as b:
        async with a.join("topic", b"secret") as here, b.join("topic", b"secret") as there:
            messages = there.messages()
            async with asyncio.timeout(100):
                await here.joined()
                await here.broadcast(b"hello")
                print((await anext(messages)).content)
            try:
                async with asyncio.timeout(0.01):
                    async for _ in messages:
                        pass
            except TimeoutError:
                print("cancelled")
    return [message async for message in messages]
"""

#: Programs that run it, and what each prints.
PROGRAMS = {
    "asyncio.run": ("print(asyncio.run(meet()))", 1),
    "a loop after the other": (
        """
def descriptors():
    return len(os.listdir("/proc/self/fd"))
print(asyncio.run(meet()))
before = descriptors()
print(asyncio.run(meet()))
assert descriptors() == before, (descriptors(), before)
""",
        2,
    ),
    "the program's own asyncioreactor": (
        """
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred
async def main(reactor):
    print(await Deferred.fromFuture(asyncio.ensure_future(meet())))
task.react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
""",
        1,
    ),
    "another reactor": (
        """
from twisted.internet import selectreactor
selectreactor.install()
print(asyncio.run(meet()))
""",
        1,
    ),
    "a thread of the reactor": (
        """
from twisted.internet.threads import deferToThread
async def main():
    print(await meet())
    from twisted.internet import reactor
    assert await deferToThread(lambda: 5).asFuture(asyncio.get_running_loop()) == 5
asyncio.run(main())
""",
        1,
    ),
    "an interrupt": (
        """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
async def main():
    asyncio.get_running_loop().call_later(0.5, os.kill, os.getpid(), signal.SIGINT)
    async with aio.tracker(config(*map(int, sys.argv[1:]))) as t:
        try:
            await t.join("nobody").joined()
        finally:
            print(await meet_later())
async def meet_later():
    return []
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("b'hello'\\ncancelled")
""",
        1,
    ),
}


def free_ports(count: int) -> list[str]:
    """
    Return UDP ports of the loopback interface that are free now.
    """
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [str(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


class ProgramTests(SynchronousTestCase):
    """
    Programs.
    """

    def run_program(self, name: str) -> None:
        """
        Run a program, and check that it prints what it should, and that Python has nothing
        to say about it: no coroutine, task, socket or event loop is left.
        """
        code, times = PROGRAMS[name]
        ran = subprocess.run(
            [sys.executable, "-X", "dev", "-c", MEETING + code, *free_ports(2)],
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(dtt.__file__).parents[1]),
                "PYTHONMALLOC": "pymalloc",  # the development mode's is slow
            },
        )
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(
            sorted(ran.stdout.splitlines()), sorted(["b'hello'", "cancelled", "[]"] * times), ran.stderr
        )
        # Twisted keeps /dev/null open, in order to have a descriptor when there are no others;
        # asyncio tells of steps that take long.
        told = [
            line
            for line in ran.stderr.splitlines()
            if "/dev/null" not in line and not line.startswith("Executing <")
        ]
        self.assertEqual(
            [line for line in told if "Warning" in line or "never" in line or "Error" in line], []
        )

    @thorough
    def test_asyncio_run(self) -> None:
        """
        A program of asyncio alone.
        """
        self.run_program("asyncio.run")

    def test_several_loops(self) -> None:
        """
        Several loops, one after the other; none leaves a descriptor.
        """
        self.run_program("a loop after the other")

    @thorough
    def test_asyncioreactor(self) -> None:
        """
        A program of Twisted that has installed asyncioreactor.
        """
        self.run_program("the program's own asyncioreactor")

    @thorough
    def test_other_reactor(self) -> None:
        """
        A reactor of another kind, which does not run, is installed.
        """
        self.run_program("another reactor")

    @thorough
    def test_threads(self) -> None:
        """
        The installed reactor is the running one; its threads do not keep the process alive.
        """
        self.run_program("a thread of the reactor")

    @thorough
    def test_interrupt(self) -> None:
        """
        A program that is interrupted ends its tracker.
        """
        self.run_program("an interrupt")


class LoopsTests(SynchronousTestCase):
    """
    Tests for L{acquire} and L{release}, where the installed reactor is that of the test
    runner.
    """

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.installed = reactor

    def test_shared(self) -> None:
        """
        All users of a loop share a reactor, which is that of the loop; after the last one a
        new user gets another.
        """

        async def main() -> None:
            loop = asyncio.get_running_loop()
            one, other = acquire(loop), acquire(loop)
            self.assertIs(one, other)
            self.assertIsNot(one, self.installed)
            self.assertTrue(one.running)
            fired = loop.create_future()
            one.callLater(0, fired.set_result, None)
            await fired
            release(loop)
            self.assertIs(acquire(loop), one)
            release(loop)
            release(loop)
            self.assertIsNot(acquire(loop), one)
            release(loop)
            release(loop)

        asyncio.run(main())

    def test_stop_is_harmless(self) -> None:
        """
        Who stops the reactor does not stop the loop.
        """

        async def main() -> None:
            loop = asyncio.get_running_loop()
            reactor = acquire(loop)
            reactor.stop()
            await asyncio.sleep(0.01)
            self.assertFalse(reactor.running)
            release(loop)

        asyncio.run(main())
