"""
C{dtt init}: creates a state directory with a key and a configuration file.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

from dtt.app.options import default_state_dir
from dtt.app.usage import CommandOptions, at_most_one, path_name
from dtt.cli.complaints import print_line
from dtt.errors import StateError, UsageError
from dtt.files import create_private_file, shown
from dtt.state import StateDirectory, absolute, load_or_create_key

#: The files in the directory.
KEY_FILE = "peer.key"
CONFIG_FILE = "dtt.toml"


class InitOptions(CommandOptions):
    """
    The options of C{dtt init}.
    """

    synopsis = "[options] [DIR]"
    longdesc = (
        "Creates a state directory with a key and a commented configuration file, dtt.toml, and prints "
        "the peer "
        "id. Existing files stay unchanged. Default: the state directory of dtt run and twistd dtt, "
        "which is $STATE_DIRECTORY, $DTT_STATE_DIR, or dtt in the XDG state directory."
    )
    optFlags = [["json", None, "Print peer_id, state_dir and config as JSON."]]

    def parseArgs(self, *directories: str) -> None:
        """
        Take the directory.

        @raise usage.UsageError: there is more than one.
        """
        directory = at_most_one("init", "DIR", directories)
        try:
            self["dir"] = None if directory is None else path_name(directory)
        except ValueError as error:
            raise UsageError(f"DIR: {error}") from None

    def run(self) -> int:
        """
        Create the directory.

        @return: the exit code.
        @raise StateError: it can't be used, or is in use by a running service.
        """
        path = default_state_dir(os.environ) if self["dir"] is None else Path(self["dir"])
        if path is None:
            raise StateError("there is no home directory for the state; give DIR")
        path = absolute(path)
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise StateError(
                f"{shown(path)}: the path is not UTF-8, as a configuration file must be"
            ) from None
        config = path / CONFIG_FILE
        directory = StateDirectory(path)
        directory.lock()
        try:
            peer_id = load_or_create_key(path / KEY_FILE).peer_id.hex()
            is_new = not os.path.lexists(config)
            if is_new:
                from dtt.app.sample import sample

                is_new = create_private_file(config, sample(path).encode())
        finally:
            directory.unlock()
        if self["json"]:
            print_line(json.dumps({"peer_id": peer_id, "state_dir": str(path), "config": str(config)}))
            return 0
        option = "" if self["dir"] is None else f" --state-dir {shlex.quote(str(path))}"
        print_line(
            f"{peer_id}\n"
            f"is the peer id of {shown(path)}. Its settings are in {shown(config)}"
            f"{'' if is_new else ', which existed already'}.\n"
            "Add a topic there, and start the service:\n"
            f"    dtt run{option}"
        )
        return 0
