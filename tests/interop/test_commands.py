"""
The commands as processes: interrupted at any moment, with outputs that can't be
written, and with name servers that don't answer.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dtt.records.ticket import Ticket
from dtt.state import StateDirectory
from tests.interop.support import LOOPBACK, NO_INTEROP

#: The folder that contains the package.
ROOT = Path(__file__).parents[2]

#: Runs a command as the console script does.
SCRIPT = "from dtt.cli.main import main; main()"

#: The same, after announcing that the first statement of main has run: before, nobody
#: can handle an interrupt.
ANNOUNCED = (
    "import os; from dtt.cli.main import interrupt_silently, main; interrupt_silently(); "
    "os.write(2, b'+'); main()"
)

#: The same where no name server answers.
UNANSWERED = (
    "import socket, time; socket.getaddrinfo = lambda *a, **k: time.sleep(20) or []; "
    "import twisted.internet._resolver as r; "
    "r.GAIResolver.__init__.__defaults__ = (None, socket.getaddrinfo); " + SCRIPT
)

#: A node that nobody needs.
BOOTSTRAP = ("--bootstrap", f"{LOOPBACK}:9")


class CommandsTestCase(SynchronousTestCase):
    """
    Starts commands.
    """

    skip = NO_INTEROP

    def setUp(self) -> None:
        """
        Make the files that commands need.
        """
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.folder = folder
        self.key = folder / "key"
        self.key.touch(0o600)
        self.key.write_text("1" * 64)
        self.commands: dict[str, tuple[str, ...]] = {
            "slot": ("slot", "--topic", "x"),
            "slot with a secret": ("slot", "--topic", "x", "--secret-file", "-"),
            "open": ("open", "--topic", "x", "--secret-file", "-", "/dev/null"),
            "seal": ("seal", "--topic", "x", "--key-file", str(self.key), "--secret-file", "-"),
            "node": ("node", "--bind", LOOPBACK, "--closed", *BOOTSTRAP),
            "chat": ("chat", "x", "--listen", f"{LOOPBACK}:0", "--transport", "streams", *BOOTSTRAP),
            "demo": ("demo", "--members", "2"),
            "help": ("--help",),
            "new-topic": ("new-topic", "-o", "-"),
            "testnet": ("testnet", "4"),
            "doctor": ("doctor", "--offline", "--state-dir", str(folder / "nowhere")),
            "completion": ("completion", "bash"),
            "man": ("man", "chat"),
        }
        #: Those that print nothing before there is something to say.
        self.quiet: dict[str, tuple[str, ...]] = {
            "lookup": ("dht", "lookup", *BOOTSTRAP),
            "ping": ("dht", "ping", f"{LOOPBACK}:9"),
            "status": ("status", "--state-dir", str(folder / "nowhere")),
            "send": ("send", "--standalone", "--topic", "x", "--transport", "streams", *BOOTSTRAP, "text"),
            "listen": ("listen", "--standalone", "--topic", "x", "--transport", "streams", *BOOTSTRAP),
        }

    def start(self, script: str, *arguments: str) -> subprocess.Popen[bytes]:
        """
        Start a command whose standard input stays open.
        """
        process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def shell(self, redirection: str, *arguments: str, stdin: bytes = b"") -> tuple[int, str]:
        """
        Run a command with a redirection.

        @return: its exit code, and what it wrote to standard error.
        """
        done = subprocess.run(
            [
                *("bash", "-c", f'set -o pipefail; "$0" -c "$1" "${{@:2}}" {redirection}'),
                *(sys.executable, SCRIPT, *arguments),
            ],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.folder)},
            input=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stderr.decode()


class InterruptTests(CommandsTestCase):
    """
    Ctrl-C.
    """

    def test_any_moment(self) -> None:
        """
        A command that is interrupted, at twenty moments, ends soon, without a traceback and
        without anything left behind.
        """
        for name, arguments in (self.commands | self.quiet).items():
            for moment in range(20):
                process = self.start(ANNOUNCED, *arguments)
                assert process.stderr is not None
                self.assertEqual(process.stderr.read(1), b"+")
                time.sleep(0.01 + 0.04 * moment)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=20)
                case = f"{name} after {0.01 + 0.04 * moment:.2f} s: {process.returncode} {out!r} {err!r}"
                self.assertNotIn(b"Traceback", err, case)
                self.assertNotIn(b"KeyboardInterrupt", err, case)
                self.assertIn(process.returncode, (-signal.SIGINT, 0, 1, 4), case)
            self.assertEqual([path.name for path in self.folder.iterdir()], ["key"], name)

    def test_twice(self) -> None:
        """
        An impatient user, who presses Ctrl-C several times, sees no traceback either.
        """
        for name in ("node", "chat", "demo"):
            process = self.start(SCRIPT, *self.commands[name])
            assert process.stdout is not None
            self.assertTrue(process.stdout.read(1), name)
            for _ in range(5):
                process.send_signal(signal.SIGINT)
                time.sleep(0.002)
            _, err = process.communicate(timeout=20)
            self.assertNotIn(b"Traceback", err, name)


class OutputTests(CommandsTestCase):
    """
    Outputs and inputs that can't be used.
    """

    def test_lost(self) -> None:
        """
        Lost output causes one line on standard error and exit code 1; nothing is reported to a reader that
        has gone.
        """
        for name, arguments in self.commands.items():
            for redirection, expected in (
                (">&-", "could not be written"),
                (">/dev/full", "could not be written"),
                ("| true", ""),
            ):
                # With "| true", the first write fails: true has ended by then.
                given = b"" if name == "chat" else b"s"
                code, err = self.shell(redirection, *arguments, stdin=given)
                if expected:
                    self.assertEqual(code, 1, (name, redirection, err))
                    self.assertIn(expected, err, name)
                self.assertNotIn("Traceback", err, (name, redirection))
                self.assertNotIn("Exception ignored", err, (name, redirection))

    def test_no_error_output(self) -> None:
        """
        Errors that can't be written don't go to standard output, and keep their exit code.
        """
        for redirection in ("2>&-", "2>/dev/full"):
            self.assertEqual(self.shell(redirection, "slot")[0], 2)
            self.assertEqual(self.shell(redirection, "slot", "--topic", "x")[0], 0)

    def test_closed_input(self) -> None:
        """
        A closed standard input is not an empty secret.
        """
        for name in ("slot with a secret", "open", "seal"):
            code, err = self.shell("<&-", *self.commands[name])
            self.assertEqual((code, err.count("\n")), (1, 1), err)
            self.assertIn("standard input", err)
        self.assertEqual(self.shell("<&-", *self.commands["slot"]), (0, ""))


class BadInputTests(CommandsTestCase):
    """
    What users do wrong: one line, an exit code, and nothing left behind.
    """

    def run_all(self, cases: list[tuple[int, str, tuple[str, ...]]]) -> None:
        """
        Run commands, and check the exit code and the line on standard error of each.

        @param cases: exit code, a part of the line, and arguments.
        """
        before = sorted(path.name for path in self.folder.iterdir())
        for code, expected, arguments in cases:
            process = self.start(SCRIPT, *arguments)
            out, err = process.communicate(timeout=120)
            case = f"{arguments}: {process.returncode} {out!r} {err!r}"
            self.assertEqual(process.returncode, code, case)
            self.assertEqual(err.count(b"\n"), 1, case)
            self.assertTrue(err.startswith(b"dtt: "), case)
            self.assertIn(expected.encode(), err, case)
            self.assertEqual(sorted(path.name for path in self.folder.iterdir()), before, case)

    def test_no_service(self) -> None:
        """
        Commands that ask a service exit with 4 if none runs.
        """
        where = ("--state-dir", str(self.folder / "nowhere"))
        self.run_all(
            [
                (4, "give --state-dir, or set $DTT_STATE_DIR", (name, *more, *where))
                for name, more in (("status", ()), ("peers", ()), ("send", ("x",)), ("listen", ()))
            ]
        )
        self.run_all([(4, "it is not a directory", ("status", "--state-dir", str(self.key)))])

    def test_two_services(self) -> None:
        """
        A second service, or another command, does not use the state directory of the first.
        """
        state = self.folder / "state"
        directory = StateDirectory(state)
        directory.lock()
        self.addCleanup(directory.unlock)
        where = ("--state-dir", str(state), "--transport", "streams")
        self.run_all(
            [
                (
                    1,
                    "in use by another process",
                    ("run", "--topic", "x", "--secret-file", str(self.key), *where),
                ),
                (1, "in use by another process", ("init", str(state))),
                (1, "in use by another process", ("node", "--state-dir", str(state))),
                (4, "no daemon is running", ("status", "--state-dir", str(state))),
            ]
        )

    def test_directories(self) -> None:
        """
        A file in place of a directory, a directory that others can read, and one that can't be
        made.
        """
        lax = self.folder / "lax"
        lax.mkdir(0o755)
        secret = ("--topic", "x", "--secret-file", str(self.key))
        self.run_all(
            [
                (1, "not a directory", ("run", *secret, "--state-dir", str(self.key))),
                (1, "accessible to other users", ("run", *secret, "--state-dir", str(lax))),
                (1, "accessible to other users", ("init", str(lax))),
                (1, "not a directory", ("init", "/dev/null/x")),
                (1, "can't create", ("new-topic", "-o", "/dev/null/x")),
                (1, "can't write", ("man", "--output", "/dev/null/x")),
            ]
        )

    def test_ports(self) -> None:
        """
        A port that another program has.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind((LOOPBACK, 0))
            port = str(taken.getsockname()[1])
            self.run_all(
                [
                    (1, "Address already in use", ("testnet", "3", "--port", port)),
                    (1, "Address already in use", ("node", "--bind", LOOPBACK, "--port", port)),
                    (
                        1,
                        "Address already in use",
                        ("chat", "--ticket-file", str(self.ticket()), "--dht-port", port, *BOOTSTRAP),
                    ),
                ]
            )

    def ticket(self) -> Path:
        """
        Return a file with a ticket, elsewhere.
        """
        path = Path(self.mktemp()).absolute()
        path.touch(0o600)
        path.write_text(Ticket.make("x", bytes(64)).encode())
        return path

    def test_tickets(self) -> None:
        """
        Tickets that are damaged, missing, or that others can read.
        """
        broken, lax = self.ticket(), self.ticket()
        broken.write_text(broken.read_text()[:-3])
        lax.chmod(0o644)
        commands = ("chat", "run", "doctor", "slot", "peers", "send x --standalone", "listen --standalone")
        self.run_all(
            [(2, "Copy it again", (*each.split(), "--ticket-file", str(broken))) for each in commands]
            + [(1, "accessible to other users", ("chat", "--ticket-file", str(lax)))]
            + [(1, "can't read", ("listen", "--ticket-file", str(self.folder / "nowhere")))]
        )
        self.assertNotIn(broken.read_text()[10:30], str(os.listdir(self.folder)))

    def test_no_locale(self) -> None:
        """
        Without a UTF-8 locale nothing fails: what can't be shown is escaped.
        """
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONUTF8": "0"}
        environ |= {"PYTHONCOERCECLOCALE": "0", "COLUMNS": "20"}
        for arguments, code in (
            (("--help",), 0),
            (("chat", "--help"), 0),
            (("man", "chat"), 0),
            (("completion", "zsh"), 0),
            (("slot", "--topic", "Fête"), 0),
            (("new-topic", "Fête", "-o", "-"), 2),
            (("nonsense-ê",), 2),
        ):
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT, *arguments],
                cwd=self.folder,
                env=environ,
                capture_output=True,
                timeout=60,
                check=False,
            )
            self.assertEqual(done.returncode, code, (arguments, done.stderr))
            self.assertEqual(done.stderr.count(b"\n"), int(code != 0), (arguments, done.stderr))


class NameTests(CommandsTestCase):
    """
    Name servers that don't answer.
    """

    def test_stops(self) -> None:
        """
        A command that waits for name servers stops within 2 s.
        """
        names = ("--bootstrap", "one.example:1", "--bootstrap", "two.example:2")
        for arguments in (
            ("node", "--bind", LOOPBACK, *names),
            ("chat", "x", "--transport", "streams", "--pkarr-relay", "https://relay.example/", *names),
        ):
            process = self.start(UNANSWERED, *arguments)
            assert process.stdout is not None
            self.assertTrue(process.stdout.read(1))
            time.sleep(0.5)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
            self.assertLess(time.monotonic() - began, 2, arguments)
