"""
The status page of C{twistd dtt}, in Chromium, with a swarm around it.

With C{DTT_SCREENSHOTS=FOLDER}, L{PageTests.test_looks} saves the pictures of the
documentation there.
"""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.interop.browser import NO_BROWSER, Browser
from tests.interop.support import until
from tests.interop.test_twistd import Twistd, TwistdCase

T = TypeVar("T")

TOPIC = "garden party"

#: A page of an attacker, which tries to use the status page.
ATTACK = """<!DOCTYPE html><title>attack</title><script>
async function attempt(url, options) {
  try {
    const response = await fetch(url, options);
    return `${response.type} ${response.status} ${(await response.text()).length}`;
  } catch (error) {
    return "refused";
  }
}
</script>"""


class _Attacker(http.server.BaseHTTPRequestHandler):
    """
    Serves the attacker's page.
    """

    def do_GET(self) -> None:
        """Answer any path."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(ATTACK.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""


class PageTests(TwistdCase):
    """
    The page.
    """

    skip = NO_BROWSER
    timeout = 400

    def setUp(self) -> Deferred[None]:  # type: ignore[override]
        """Start a swarm of three, one of which serves its page."""
        started = super().setUp()

        async def start() -> None:
            await started
            self.served = self.twistd("--topic", TOPIC, "--web", "tcp:0", state="served")
            self.other = self.twistd("--topic", TOPIC, state="other")
            await until(self.reactor, lambda: self.address() and self.said(self.served, "Joined the swarm"))

        return Deferred.fromCoroutine(start())

    def said(self, twistd: Twistd, text: str) -> bool:
        """Whether a text is in the log."""
        return text.encode() in twistd.out

    def address(self) -> str | None:
        """The address of the page."""
        for line in self.served.lines():
            if "status page is at " in line:
                return line.partition("status page is at ")[2].partition(";")[0]
        return None

    @property
    def token(self) -> str:
        """The password."""
        return (self.folder / "served" / "web.token").read_text().strip()

    def browse(
        self, steps: Callable[[Browser], T], arguments: tuple[str, ...] = (), *, signed_in: bool = True
    ) -> Deferred[T]:
        """Run steps in a browser, which knows the password."""
        url = self.address()
        assert url is not None

        def run() -> T:
            browser = Browser(arguments)
            try:
                if signed_in:
                    browser.open(url.replace("//", f"//dtt:{self.token}@"))
                    browser.open(url)
                return steps(browser)
            finally:
                browser.close()

        return deferToThread(run)

    def test_looks(self) -> Deferred[None]:
        """
        On a desk and on a phone, light and dark, nothing is wrong for people with disabilities as far as
        axe-core sees, nothing sticks out at the side, and the browser complains about nothing.
        """
        screenshots = os.environ.get("DTT_SCREENSHOTS")

        def steps(browser: Browser) -> None:
            browser.wait("document.body.dataset.live")
            for name, width, height, scheme in (
                ("desk-light", 1000, 900, "light"),
                ("desk-dark", 1000, 900, "dark"),
                ("phone-light", 360, 740, "light"),
                ("phone-dark", 360, 740, "dark"),
            ):
                browser.look(width, height, scheme)
                self.assertEqual(browser.violations(), [], name)
                self.assertLessEqual(
                    browser.run("return document.documentElement.scrollWidth"), width, f"{name} is too wide"
                )
                if screenshots:
                    browser.screenshot(Path(screenshots) / f"page-{name}.png", 1500)
            self.assertEqual(browser.messages(), [])
            self.assertIn(TOPIC, browser.run("return document.getElementById('state').textContent"))

        return self.browse(steps)

    def test_updates(self) -> Deferred[None]:
        """
        A member that comes appears without a reload, through the event stream; the focus stays where
        it is.
        """

        async def run() -> None:
            ready = threading.Event()
            came = self.browse(lambda browser: self._watch(browser, ready))
            await deferToThread(ready.wait, 60)
            self.twistd("--topic", TOPIC, state="third")
            await came

        return Deferred.fromCoroutine(run())

    def _watch(self, browser: Browser, ready: threading.Event) -> None:
        try:
            browser.wait("document.body.dataset.live")
            browser.wait("document.getElementById('state').textContent.includes('1 neighbour.')")
            browser.run("window.same = true; document.querySelector('footer a').focus();")
        finally:
            ready.set()
        browser.wait("document.getElementById('state').textContent.includes('2 neighbours.')", seconds=60)
        self.assertTrue(browser.run("return window.same"), "the page was loaded again")
        self.assertEqual(browser.run("return document.activeElement.textContent"), "/v1/status")
        self.assertEqual(
            browser.run("return document.querySelectorAll('#topics tbody tr td code').length"), 2
        )
        self.assertEqual(browser.messages(), [])

    def test_without_javascript(self) -> Deferred[None]:
        """Without JavaScript the page is a snapshot, and says so."""

        def steps(browser: Browser) -> None:
            browser.command("Emulation.setScriptExecutionDisabled", value=True)
            browser.open(str(self.address()))
            text = browser.command("Runtime.evaluate", expression="document.body.innerText")
            self.assertIn("reload it for a new one", str(text))
            self.assertIn("joined, 1 neighbour", str(text))

        return self.browse(steps)

    def test_keyboard(self) -> Deferred[None]:
        """With the keyboard, the first stop skips to the topics, and every table that scrolls is a stop."""

        def steps(browser: Browser) -> None:
            browser.press("TAB")
            self.assertEqual(browser.run("return document.activeElement.className"), "skip")
            browser.press("ENTER")
            self.assertEqual(browser.run("return document.activeElement.id"), "main")
            stops = []
            for _ in range(12):
                browser.press("TAB")
                stops.append(browser.run("return document.activeElement.getAttribute('aria-label')"))
            self.assertIn("Neighbours", stops)
            self.assertIn("Found, by channel", stops)

        return self.browse(steps)

    def test_password(self) -> Deferred[None]:
        """Without the password there is nothing to see."""

        def steps(browser: Browser) -> None:
            browser.command("Network.enable")
            browser.open(str(self.address()))
            self.assertNotIn(TOPIC, str(browser.run("return document.documentElement.innerText")))

        return self.browse(steps, signed_in=False)

    def test_other_sites(self) -> Deferred[None]:
        """
        A page of another site can neither read nor change anything, although the browser knows the
        password; not even if its name is made to point here (DNS rebinding).
        """
        attacker = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Attacker)
        threading.Thread(target=attacker.serve_forever, daemon=True).start()
        self.addCleanup(attacker.server_close)
        self.addCleanup(attacker.shutdown)
        here = str(self.address())
        port = here.rstrip("/").rpartition(":")[2]

        def steps(browser: Browser) -> None:
            browser.open(f"http://attacker.example:{attacker.server_port}/")
            headers = {"Content-Type": "application/json"}
            body = '{"topic": "stolen"}'
            for path, options in (
                ("", {"credentials": "include"}),
                ("v1/status", {"credentials": "include"}),
                ("v1/status", {"credentials": "include", "mode": "no-cors"}),
                ("v1/topics", {"method": "POST", "credentials": "include", "body": body}),
                ("v1/topics", {"method": "POST", "mode": "no-cors", "credentials": "include", "body": body}),
                (
                    "v1/topics",
                    {
                        "method": "POST",
                        "credentials": "include",
                        "body": body,
                        "headers": headers,
                    },
                ),
            ):
                result = browser.run("return attempt(arguments[0], arguments[1])", here + path, options)
                self.assertIn(result, ("refused", "opaque 0 0"), (path, options))
            # The name now points here.
            browser.open(f"http://attacker.example:{port}/")
            text = str(browser.run("return document.documentElement.innerText"))
            self.assertIn("this is not attacker.example", text)
            browser.open(here)
            self.assertNotIn("stolen", str(browser.run("return document.body.innerText")))

        return self.browse(steps, ("--host-resolver-rules=MAP attacker.example 127.0.0.1",))
