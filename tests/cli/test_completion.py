"""
Tests for L{dtt.cli.completion}.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest

from dtt.cli import completion
from dtt.cli.commands import run
from tests.cli.common import CommandTestCase


class CompletionTests(CommandTestCase):
    """
    Tests for C{dtt completion}.
    """

    def script(self, shell: str) -> str:
        """Return a file with the script for a shell, if that is installed."""
        if shutil.which(shell) is None:
            raise SkipTest(f"{shell} is not installed")
        self.assertEqual(run(["completion", shell]), 0)
        path = Path(self.mktemp())
        path.write_text("\n".join(self.printed()) + "\n")
        return str(path)

    def complete_in_bash(self, *words: str) -> list[str]:
        """Return what bash proposes for the last word."""
        script = self.script("bash")
        quoted = " ".join(f"'{word}'" for word in words)
        code = f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _dtt; "
        done = subprocess.run(
            ["bash", "--norc", "-c", code + 'printf "%s\\n" "${COMPREPLY[@]}"'],
            stdout=subprocess.PIPE,
            timeout=60,
            check=True,
        )
        return done.stdout.decode().split()

    def test_bash(self) -> None:
        """Commands, words of two-word commands, options, shells and files are completed."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "a.ticket").touch()
        for words, proposed in (
            (["dtt", "new"], ["new-topic"]),
            (["dtt", "dht", "p"], ["peers", "ping", "put"]),
            (["dtt", "help", "sea"], ["seal"]),
            (["dtt", "completion", "f"], ["fish"]),
            (["dtt", "dht", "get", "--sa"], ["--salt"]),
            (["dtt", "chat", "--ticket-file", f"{folder}/"], [f"{folder}/a.ticket"]),
            (["dtt", "chat", "--state-dir", f"{folder}/"], []),
        ):
            self.assertEqual(self.complete_in_bash(*words), proposed, words)

    def test_other_shells(self) -> None:
        """The scripts for the other shells are valid, and fish proposes the same."""
        for shell in ("zsh", "fish"):
            try:
                script = self.script(shell)
            except SkipTest:
                continue
            subprocess.run([shell, "-n", script], timeout=60, check=True)
            if shell == "fish":
                code = f"source {script}; complete -C 'dtt dht p'"
                done = subprocess.run([shell, "--no-config", "-c", code], stdout=subprocess.PIPE, check=True)
                self.assertEqual(done.stdout.decode().split(), ["peers", "ping", "put"])

    def test_complete(self) -> None:
        """Every command and every option is in every script."""
        described = completion.described()
        for make in (completion.bash, completion.zsh, completion.fish):
            text = "\n".join(make(described))
            for word in completion.first_words():
                self.assertIn(word, text)
            for options in described.values():
                for option in options:
                    self.assertIn(option.long, text)

    def test_wrong(self) -> None:
        """Another shell is refused."""
        for words in ([], ["csh"], ["bash", "zsh"]):
            self.assertEqual(run(["completion", *words]), 2)
