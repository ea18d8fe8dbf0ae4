"""
The code blocks of the README and of docs/.

Each block is run by a test, here or in another module, or is at least parsed: commands by
the options they use, Python by the compiler. A new block must be added to one of the
lists.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import twisted.internet
from twisted.application.service import IService, MultiService
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import dtt
from dtt import Config, DHTNode, Tracker
from dtt.cli.commands import parse
from dtt.config import Config as TrackerConfig
from dtt.config import DHTConfig, load_toml
from dtt.records.ticket import Ticket
from dtt.tap import Options
from dtt.testing.net.machines import MachineNetwork
from dtt.tracker import kept, tracker
from dtt.transport.iroh import bindings as iroh_bindings
from tests.tracker.common import without_iroh

ROOT = Path(dtt.__file__).parents[1]

#: Python and TOML blocks by page: the tests that run them.
RUN = {
    "README.md": ("tests.test_readme",),
    "docs/explanation/comparison.md": ("tests.test_comparison",),
    "docs/explanation/dht-node.md": ("tests.dht.test_docs",),
    "docs/how-to/discovery.md": ("tests.test_how_to_embedders",) * 3,
    "docs/how-to/own-parts.md": ("tests.test_how_to_embedders",) * 5,
    "docs/how-to/embedding.md": ("test_embedding", "test_node"),
    "docs/how-to/application-streams.md": ("tests.test_how_to_streams",) * 3,
    "docs/how-to/signed-messages.md": ("tests.test_how_to_streams",) * 2,
    "docs/how-to/asyncio.md": ("tests.aio.test_docs",),
    "docs/how-to/state.md": ("tests.contrib.test_docs",),
    "docs/how-to/testing.md": ("tests.test_testing_docs",) * 3 + ("tests.test_docs",),
    "docs/how-to/testing-at-scale.md": ("tests.test_docs",),
    "docs/how-to/simulate.md": ("tests.test_docs",),
    "docs/reference/configuration.md": ("tests.test_docs",),
    "docs/tutorial/first-application.md": ("test_first_application", "test_first_application"),
    # libtorrent settings, and calls of the iroh bindings, as used in tests.interop.
    "docs/protocol/dht.md": ("test_compiles",),
    # The client of a running daemon, as used in tests.interop.
    "docs/reference/http.md": ("test_compiles",),
    "docs/how-to/status-page.md": ("test_settings",),
    "docs/protocol/gossip.md": ("test_compiles",),
}

STATUS_PAGE = "docs/how-to/status-page.md"

#: Other blocks: figures, output, a unit file, a Rust program.
NOT_RUN = {"text", "ini", "rust", "yaml", "js", "go"}


def blocks() -> Iterator[tuple[str, str, str]]:
    """
    The page, language and text of each block.
    """
    if not (ROOT / "README.md").exists():
        raise SkipTest("the documentation is not beside an installed package")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        page = path.relative_to(ROOT).as_posix()
        for match in re.finditer(r"^( *)```(\w+)\n(.*?)^\1```", path.read_text("utf-8"), re.M | re.S):
            lines = match[3].splitlines()
            yield page, match[2], "\n".join(line.removeprefix(match[1]) for line in lines) + "\n"


def python(page: str) -> list[str]:
    """
    The Python blocks of a page.
    """
    return [text for name, language, text in blocks() if (name, language) == (page, "python")]


def commands() -> Iterator[tuple[str, list[str]]]:
    """
    The page and the words of each command line in a shell block that runs dtt.
    """
    for page, language, text in blocks():
        if language == "sh":
            for line in text.replace("\\\n", " ").splitlines():
                for part in line.split("&&"):
                    words = shlex.split(part.strip("()"), comments=True)
                    if words and Path(words[0]).name in ("dtt", "twistd"):
                        yield page, words


class CodeBlocksTests(SynchronousTestCase):
    """
    All code blocks.
    """

    def test_all_are_run(self) -> None:
        """
        Each Python and TOML block is run by a test; the languages are known.
        """
        found: dict[str, int] = {}
        languages = set()
        for page, language, _ in blocks():
            languages.add(language)
            if language in ("python", "toml"):
                found[page] = found.get(page, 0) + 1
        self.assertEqual(found, {page: len(tests) for page, tests in RUN.items()})
        self.assertEqual(languages - {"python", "toml", "sh"}, NOT_RUN)

    def test_settings(self) -> None:
        """
        The excerpt of a configuration file is one.
        """
        [text] = [text for page, language, text in blocks() if (page, language) == (STATUS_PAGE, "toml")]
        path = Path(self.mktemp())
        path.write_text(text)
        config, _ = load_toml(path)
        self.assertEqual((config.web.listen, config.web.hosts), (("127.0.0.1", 8470), ("dtt.example.org",)))

    def test_compiles(self) -> None:
        """
        Each Python block compiles; top-level C{await} is allowed.
        """
        for page, language, text in blocks():
            if language == "python":
                compile(text, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    def test_commands(self) -> None:
        """
        The options of each command shown exist, and their values are valid.
        """
        folder = self.mktemp()
        os.mkdir(folder)
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(folder)
        # As where the extra is installed, whose options some of them use.
        self.patch(iroh_bindings, "unavailable_reason", lambda: None)
        Path("secret").touch(mode=0o600)
        Path("secret").write_text("between us\n")
        Path("garden-party.ticket").touch(mode=0o600)
        Path("garden-party.ticket").write_text(Ticket.make("garden party", bytes(64)).encode())
        count = 0
        for page, words in commands():
            options: Any
            if "twistd" in words[0]:
                if "dtt" not in words:
                    continue
                options, arguments = Options(), words[words.index("dtt") + 1 :]
                with contextlib.redirect_stdout(io.StringIO()):
                    try:
                        options.parseOptions(arguments)
                    except SystemExit as end:  # --help, --version
                        self.assertEqual(end.code or 0, 0, f"{page}: {words}")
            else:
                with contextlib.redirect_stdout(io.StringIO()):
                    parse(words[1:])
            count += 1
        self.assertGreater(count, 10)

    def test_twistd_runs_a_file(self) -> None:
        """
        The C{twistd} command of the tutorial runs the file that the tutorial tells users
        to save.
        """
        words = next(
            words
            for page, words in commands()
            if page == "docs/tutorial/first-application.md" and "talk.tac" in words
        )
        self.assertEqual(words, ["twistd", "--pidfile=", "-ny", "talk.tac"])


class EmbeddingTests(SynchronousTestCase):
    """
    Fragments, run with the names they require.
    """

    def setUp(self) -> None:
        """
        Create a machine, and a DHT node that answers.
        """
        without_iroh(self)
        clock = Clock()
        clock.advance(1_800_000_000)
        self.network = MachineNetwork(clock, rng=Random(1))
        self.network.udp.names["router.bittorrent.com"] = ["10.0.0.1"]
        self.dht = DHTNode(self.network.reactor("10.0.0.1"), port=6881, rng=Random(2))
        self.application = MultiService()
        for service in (self.dht, self.application):
            service.privilegedStartService()
            service.startService()

    def tearDown(self) -> None:
        """
        Stop everything, and check that nothing is left.
        """
        self.application.stopService()
        self.dht.stopService()
        self.network.advance(5)
        self.assertEqual(self.network.listening(), set())

    def run_block(self, number: int, **names: Any) -> dict[str, Any]:
        """
        Run a block of the page.
        """
        code = python("docs/how-to/embedding.md")[number]
        names |= {"reactor": self.network.reactor("10.1.1.1"), "application": self.application}
        exec(compile(code, "docs/how-to/embedding.md", "exec"), names)
        return names

    def test_embedding(self) -> None:
        """
        The tracker runs with the application, and keeps its state.
        """
        folder = Path(self.mktemp())
        names = self.run_block(0, Tracker=Tracker, Config=Config, Path=lambda text: folder)
        self.network.advance(1)
        self.assertTrue(names["tracker"].running)
        self.assertTrue((folder / kept.KEY_FILE).exists())
        self.assertEqual(names["topic"].neighbors(), ())

    def test_node(self) -> None:
        """
        The node looks for peers, and finds none.
        """
        printed: list[object] = []
        shown = python("docs/how-to/embedding.md")[1]
        self.assertIn('bytes.fromhex("...")', shown)
        self.patch(twisted.internet, "reactor", None)
        names = {"reactor": self.network.reactor("10.1.1.1"), "application": self.application}
        code = shown.replace('"..."', repr("ab" * 20))
        exec(compile(code, "docs/how-to/embedding.md", "exec"), {**names, "print": printed.append})
        self.network.advance(10)
        self.assertEqual(printed, [frozenset()])


class FirstApplicationTests(SynchronousTestCase):
    """
    The tutorial, with three machines instead of three terminals.
    """

    def test_first_application(self) -> None:
        """
        Two instances of the file meet and greet each other; the other configuration is
        valid.
        """
        without_iroh(self)
        code, public = python("docs/tutorial/first-application.md")
        clock = Clock()
        clock.advance(1_800_000_000)
        network = MachineNetwork(clock, rng=Random(1))
        dht = DHTNode(network.reactor("127.0.0.1"), port=6881, closed=True, rng=Random(2))
        services: list[Any] = [dht]
        output = io.StringIO()
        ids = []
        for number in (1, 2):
            self.patch(twisted.internet, "reactor", network.reactor("127.0.0.1"))
            self.patch(tracker, "SystemRandom", lambda number=number: Random(number + 200))
            names: dict[str, Any] = {}
            with contextlib.redirect_stdout(output):
                exec(compile(code, "talk.tac", "exec"), names)
            services.append(IService(names["application"]))
            ids.append(names["tracker"].peer_id)
        with contextlib.redirect_stdout(output):
            for service in services:
                service.privilegedStartService()
                service.startService()
                network.advance(2)
            network.advance(30)
            for service in services:
                service.stopService()
            network.advance(5)
        lines = output.getvalue().splitlines()
        for one, other in (ids, ids[::-1]):
            self.assertIn(f"here: {one.hex()}", lines)
            self.assertIn(f"{b'hello from ' + one.hex().encode()} through {one.hex()}", lines)
            self.assertNotEqual(one, other)
        self.assertEqual(network.listening(), set())
        shown: dict[str, Any] = {"Config": TrackerConfig, "DHTConfig": DHTConfig}
        exec(compile(public, "docs/tutorial/first-application.md", "exec"), shown)
        self.assertEqual(shown["config"].dht, DHTConfig())


class InstallTests(SynchronousTestCase):
    """
    The installation commands in the tree.
    """

    def test_distribution_name(self) -> None:
        """
        C{dtt} on the package index is another project: every C{pip install} in the tree
        names C{distributed-topic-tracker}, a checkout, or another package.
        """
        others = {"libtorrent", "certifi", "tahoe-lafs"}
        wrong, count = [], 0
        for path in sorted(ROOT.rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            if path.suffix not in (".py", ".md", ".cfg", ".toml", ".yml", ".yaml") or "node_modules" in name:
                continue
            # What tests with real peers have installed is not of this tree.
            if name.startswith((".venv", ".tahoe-venv", "build/", "dist/")) or path == Path(__file__):
                continue
            for match in re.finditer(
                r"pip install ((?:-\S+ )*)(['\"]?[\w.{][\w.\[\]-]*)", path.read_text("utf-8")
            ):
                count += 1
                wanted = match[2].strip("'\"").partition("[")[0].rstrip(".,;)") or "."
                if wanted not in {"distributed-topic-tracker", ".", *others} and not wanted.startswith("{"):
                    wrong.append(f"{name}: {match[0]}")
        self.assertEqual(wrong, [])
        self.assertGreater(count, 15)
