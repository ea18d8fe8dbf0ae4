"""
C{dtt new-topic}: creates a ticket, and prints how to use it.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

from dtt.app.helptext import wrap
from dtt.app.usage import CommandOptions, at_most_one, path_name, terminal_width, value_of
from dtt.cli.complaints import OutputLost, print_line
from dtt.errors import StateError, UsageError
from dtt.files import create_private_file, shown
from dtt.records.ticket import RANDOM_BYTES, Ticket, check_label

#: The maximum length of the part of a file name that comes from a label (guess).
MAX_NAME = 40


def file_name(ticket: Ticket) -> str:
    """
    Return the name of the file in which a ticket is stored: its label, or the first
    digits of the topic id.
    """
    name = "".join(each if each.isalnum() else "-" for each in ticket.label)[:MAX_NAME].strip("-")
    return f"{name or f'topic-{ticket.topic_id.hex()[:8]}'}.ticket"


def renewed_name(path: Path) -> Path:
    """
    Return the path for the successor of a ticket: C{x-2.ticket} for C{x.ticket}, C{x-3}
    for C{x-2}.

    @param path: the file of the current ticket.
    """
    stem, _, number = path.stem.rpartition("-")
    if stem and number.isascii() and number.isdigit() and len(number) < 6:
        return path.with_name(f"{stem}-{int(number) + 1}{path.suffix}")
    return path.with_name(f"{path.stem}-2{path.suffix}")


def instructions(path: Path, renewed: Path | None) -> list[str]:
    """
    Return the next steps, one paragraph each; commands begin with four blanks.

    @param path: the file with the ticket.
    @param renewed: the file with the ticket that it replaces; C{None}: none.
    """
    quoted = shlex.quote(str(path) if not str(path).startswith("-") else f"./{path}")
    name = shlex.quote(path.name)
    lines = [
        f"Wrote {shown(path)}. Anyone who has this file can join, read and send messages: keep it secret.",
        "Copy it to the other machine over a channel that you trust, for example:",
        f"    scp -p {quoted} OTHER-MACHINE:",
    ]
    if renewed is None:
        return [
            *lines,
            "Then run on both machines:",
            f"    dtt chat --ticket-file {name}",
        ]
    old = shlex.quote(renewed.name)
    return [
        *lines,
        "Use both tickets until all members that stay have the new one:",
        f"    dtt chat --ticket-file {name} --ticket-file {old}",
        "Then drop the old one. A member without the new ticket is excluded.",
    ]


class NewTopicOptions(CommandOptions):
    """
    The options of C{dtt new-topic}.
    """

    synopsis = "[options] [LABEL]"
    longdesc = (
        "Creates a ticket: a random topic and a random secret in one line, in a file that only you can read. "
        "Members that have the ticket find each other; pass it to commands with --ticket-file FILE. LABEL is "
        "a name for people."
    )
    optFlags = [
        ["json", None, "Print file, topic_id and label as JSON; never the secret."],
        ["show", None, "Also print the ticket, to paste it where dtt chat --ticket-file - asks for it."],
    ]
    optParameters = [
        [
            "output",
            "o",
            None,
            "File for the ticket, which must not exist; - is standard output. Default: LABEL.ticket in the "
            "working directory.",
            value_of("output", path_name),
        ],
        [
            "renew",
            None,
            None,
            "Create the successor of the ticket in this file, with the same label, to change a secret or to "
            "exclude a member.",
            value_of("renew", path_name),
        ],
    ]
    placeholders = {"renew": "FILE"}

    def parseArgs(self, *labels: str) -> None:
        """
        Take the label.

        @raise usage.UsageError: there is more than one.
        """
        label = at_most_one("new-topic", "LABEL", labels, "; put it in quotation marks")
        self["label"] = "" if label is None else check_label(label)

    def postOptions(self) -> None:
        """
        Check that options do not contradict each other.

        @raise UsageError: they do.
        """
        if self["renew"] is not None and self["label"]:
            raise UsageError("--renew keeps the label; give no LABEL")
        if self["output"] == "-" and (self["json"] or self["show"]):
            raise UsageError("--output - prints the ticket alone; give neither --json nor --show")

    def run(self) -> int:
        """
        Create the ticket.

        @return: the exit code.
        @raise StateError: the file exists or can't be written, or the file of --renew can't be read.
        """
        label, renewed = self["label"], None
        if self["renew"] is not None:
            from dtt.app.tickets import read_tickets

            renewed = Path(self["renew"])
            label = read_tickets(Path.cwd() / renewed)[0].label
        ticket = Ticket.make(label, os.urandom(RANDOM_BYTES))
        if self["output"] == "-":
            print_line(ticket.encode())
            return 0
        if self["output"] is not None:
            path = Path(self["output"])
        else:
            path = Path(file_name(ticket)) if renewed is None else renewed_name(renewed)
        if not create_private_file(path, ticket.encode().encode("ascii") + b"\n"):
            raise StateError(
                f"{shown(path)} exists, and its ticket would be lost; move it away, or give --output FILE"
            )
        if self["json"]:
            text = json.dumps({"file": str(path), "topic_id": ticket.topic_id.hex(), "label": label})
        else:
            text = self._explanation(path, renewed)
        try:
            # In one call, so that a reader that stops after the first line causes no error.
            print_line(f"{text}\n{ticket.encode()}" if self["show"] else text)
        except OutputLost as error:
            if not isinstance(error.cause, BrokenPipeError):
                os.unlink(path)  # nobody knows about it
            raise
        return 0

    def _explanation(self, path: Path, renewed: Path | None) -> str:
        # In a pipe the lines are for a program, or for a file, and have no width.
        width = terminal_width() if sys.stdout.isatty() else 10**6
        return "\n".join(
            part
            for line in instructions(path, renewed)
            for part in ([line] if line.startswith(" ") else wrap(line, width))
        )
