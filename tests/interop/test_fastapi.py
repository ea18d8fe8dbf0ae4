"""
C{examples/fastapi_app.py} behind uvicorn, as two processes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.support import LOOPBACK, NO_INTEROP
from tests.interop.tahoe import ROOT, Process, free_ports

NO_FASTAPI = NO_INTEROP or (
    None
    if find_spec("fastapi") and find_spec("uvicorn")
    else "fastapi or uvicorn can't be imported (pip install '.[examples]')"
)


class Server(Process):
    """
    A web server that is a member.
    """

    def __init__(self, folder: Path, number: int, dht: int, other: int) -> None:
        (self.port,) = free_ports(1)
        config = folder / f"{number}.toml"
        config.write_text(
            f'transport = ["streams"]\nlisten = "{LOOPBACK}:0"\n'
            f'[dht]\nport = {dht}\nbind = "{LOOPBACK}"\nbootstrap = ["{LOOPBACK}:{other}"]\n'
            f'[[topic]]\nname = "web"\nsecret_file = "{folder}/secret"\n'
        )
        app = ["fastapi_app:app", "--app-dir", str(ROOT / "examples"), "--host", LOOPBACK]
        super().__init__(
            folder / f"{number}.log",
            *("env", f"DTT_CONFIG={config}", sys.executable, "-X", "dev", "-m", "uvicorn", *app),
            *("--port", str(self.port)),
        )

    def ask(self, path: str, body: bytes | None = None) -> bytes:
        """
        Send a request.
        """
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.port}{path}", body, timeout=30) as response:
            return bytes(response.read())

    def get(self, path: str) -> list[str]:
        """
        Return a list; empty if the server does not answer yet.
        """
        try:
            found: list[str] = json.loads(self.ask(path))
        except urllib.error.URLError:
            return []
        return found


class FastAPITests(SynchronousTestCase):
    """
    Two web servers.
    """

    skip = NO_FASTAPI

    def until(self, condition: Callable[[], object]) -> None:
        """
        Wait until something holds, for a minute at most.
        """
        end = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.1)

    def test_servers(self) -> None:
        """
        They find each other; what is posted to one is heard by the other. What is too large, or
        was said already, is refused. They end on SIGTERM, and Python's development mode has
        nothing to say.
        """
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "secret").touch(0o600)
        (folder / "secret").write_bytes(b"secret")
        dht = free_ports(2)
        servers = [Server(folder, number, dht[number], dht[1 - number]) for number in range(2)]
        for server in servers:
            self.addCleanup(server.end)
            server.start()
        one, other = servers
        self.until(lambda: one.get("/neighbors") and other.get("/neighbors"))
        one.ask("/say", b"hello")
        self.until(lambda: other.get("/heard") == ["hello"])
        for body, code in ((b"hello", 409), (bytes(5000), 413), (bytes(100_000), 413)):
            with self.assertRaises(urllib.error.HTTPError) as caught:
                one.ask("/say", body)
            self.assertEqual(caught.exception.code, code)
            caught.exception.close()
        for server in servers:
            self.assertIn(server.kill(signal.SIGTERM), (0, -signal.SIGTERM))
            text = server.log.read_text("utf-8")
            told = [line for line in text.splitlines() if "/dev/null" not in line]
            self.assertEqual([line for line in told if "Traceback" in line or "Warning" in line], [])
        self.assertNotIn("DTT_CONFIG", os.environ)
