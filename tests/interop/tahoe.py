"""
Nodes of an unmodified Tahoe-LAFS from the package index, and the bridges of
C{examples/tahoe_grid} beside them, as processes on the loopback interface.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from twisted.internet.threads import deferToThread

from tests.interop.support import LOOPBACK

ROOT = Path(__file__).parents[2]
BRIDGE = ROOT / "examples" / "tahoe_grid" / "bridge.py"

#: The release that the example names.
REQUIREMENT = "tahoe-lafs==1.20.0"

#: A virtual environment with it: one that is there, or where the first test makes one.
VENV = Path(os.environ.get("DTT_TAHOE") or Path(__file__).parents[2] / ".tahoe-venv")


def install() -> str | None:
    """
    Install Tahoe-LAFS into a separate virtual environment, unless it exists.

    @return: why that was not possible.
    """
    if (VENV / "bin" / "tahoe").exists():
        return None
    for command in (
        [sys.executable, "-m", "venv", str(VENV)],
        [str(VENV / "bin" / "pip"), "install", "-q", REQUIREMENT],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            return (
                f"{REQUIREMENT} can't be installed: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
            )
    return None


def free_ports(count: int) -> list[int]:
    """
    Return TCP and UDP ports of the loopback interface that are free now.
    """
    found: list[int] = []
    held = []
    while len(found) < count:
        tcp = socket.socket()
        tcp.bind((LOOPBACK, 0))
        port = tcp.getsockname()[1]
        udp = socket.socket(type=socket.SOCK_DGRAM)
        held += [tcp, udp]
        try:
            udp.bind((LOOPBACK, port))
        except OSError:
            continue
        found.append(port)
    for each in held:
        each.close()
    return found


class Process:
    """
    A process, which can be killed and started again.
    """

    def __init__(self, log: Path, *command: str) -> None:
        self.log = log
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """
        Start it; its output is appended to the log.
        """
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def kill(self, number: int = signal.SIGKILL) -> int:
        """
        End it.

        @return: its exit code.
        """
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(30)

    def end(self) -> None:
        """
        End it if it runs.
        """
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def said(self, words: str) -> bool:
        """
        Return whether its log contains some words; if not, it must run.
        """
        text = self.log.read_text("utf-8", "replace")
        if words in text:
            return True
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"{self.log.name} has ended: {text[-2000:]}")
        return False


class Machine:
    """
    A Tahoe node and its bridge.

    @ivar bridge: the bridge.
    @ivar node: the node.
    """

    def __init__(self, folder: Path, name: str, bootstrap: Iterable[str], secret: Path) -> None:
        self.name = name
        self.folder = folder / name
        self.folder.mkdir()
        self._port, self.tub_port, self.web_port = free_ports(3)
        config = self.folder / "bridge.toml"
        quoted = ", ".join(f'"{each}"' for each in bootstrap)
        config.write_text(
            f'state_dir = "{self.folder}/bridge"\n'
            f'transport = ["streams"]\nlisten = "{LOOPBACK}:0"\n'
            f'[dht]\nbind = "{LOOPBACK}"\nbootstrap = [{quoted}]\n'
            f'[[topic]]\nname = "our grid"\nsecret_file = "{secret}"\n'
        )
        self.bridge = Process(
            self.folder / "bridge.log",
            *(sys.executable, str(BRIDGE), str(config), "--port", str(self._port)),
        )
        self.node = Process(
            self.folder / "node.log",
            *(str(VENV / "bin" / "tahoe"), "run", "--allow-stdin-close", str(self.folder / "tahoe")),
        )

    def create(self, storage: bool) -> None:
        """
        Make the node, as its operator would.  The bridge must have been started.
        """
        furl = (self.folder / "bridge" / "introducer.furl").read_text().strip()
        kind = ["create-node"] if storage else ["create-client"]
        where = [
            f"--port=tcp:{self.tub_port}:interface={LOOPBACK}",
            f"--location=tcp:{LOOPBACK}:{self.tub_port}",
        ]
        subprocess.run(
            [
                str(VENV / "bin" / "tahoe"),
                *kind,
                *(where if storage else []),
                f"--introducer={furl}",
                f"--nickname={self.name}",
                f"--webport=tcp:{self.web_port}:interface={LOOPBACK}",
                *("--shares-needed=2", "--shares-happy=2", "--shares-total=3"),
                str(self.folder / "tahoe"),
            ],
            check=True,
            capture_output=True,
            timeout=200,
        )

    def end(self) -> None:
        """
        End both processes.
        """
        self.node.end()
        self.bridge.end()

    # The web interface of the node

    def _request(self, method: str, path: str, data: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"http://{LOOPBACK}:{self.web_port}{path}", data, method=method)
        response: IO[bytes]
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.read()

    async def upload(self, data: bytes) -> str:
        """
        Store a file.

        @return: its capability.
        """
        return (await deferToThread(self._request, "PUT", "/uri", data)).decode()

    async def download(self, capability: str) -> bytes:
        """
        Read a file.
        """
        return await deferToThread(self._request, "GET", f"/uri/{capability}")

    async def servers(self) -> dict[str, bool]:
        """
        Return the storage servers that the node knows, by nickname, and whether it is
        connected to each; empty if it does not answer yet.
        """
        try:
            status: Any = json.loads(await deferToThread(self._request, "GET", "/?t=json"))
        except OSError:
            return {}
        return {
            each["nickname"]: each["connection_status"].lower().startswith("connected")
            for each in status["servers"]
        }
