"""
Chromium without a window, for tests of the status page.

Needs Debian's packages chromium and chromium-driver, and the Python packages selenium and
axe-core-python (extra C{dev}).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.interop.support import NO_INTEROP

_DRIVER, _CHROMIUM = shutil.which("chromedriver"), shutil.which("chromium")

#: The packages that have axe.min.js, the one with the newer version first.
_AXE = [name for name in ("axe_playwright_python", "axe_core_python") if find_spec(name)]

#: The reason to skip a test that needs a browser; C{None} to run it.
NO_BROWSER = NO_INTEROP or (
    None
    if _DRIVER and _CHROMIUM and find_spec("selenium") and _AXE
    else "Chromium can't be driven (apt-get install chromium chromium-driver; pip install '.[dev]')"
)


class Browser:
    """
    A browser.
    """

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        """
        Start it.

        @param arguments: further options of Chromium.
        """
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = str(_CHROMIUM)
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--force-color-profile=srgb",
            *arguments,
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self._driver: Any = webdriver.Chrome(options, Service(str(_DRIVER)))
        # A busy machine takes its time.
        self._driver.set_page_load_timeout(120)
        self._driver.set_script_timeout(120)

    def close(self) -> None:
        """End it."""
        self._driver.quit()

    def open(self, url: str) -> None:
        """Open a page."""
        self._driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page, whatever its policy is, and return what it returns."""
        return self._driver.execute_script(script, *arguments)

    def wait(self, script: str, *arguments: Any, seconds: float = 60) -> Any:
        """Wait until the value of a JavaScript expression is true, and return it."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self._driver, seconds, 0.2).until(
            lambda _: self._driver.execute_script(f"return {script}", *arguments)
        )

    def command(self, name: str, **parameters: Any) -> Any:
        """Run a command of the DevTools protocol."""
        return self._driver.execute_cdp_cmd(name, parameters)

    def look(self, width: int, height: int, scheme: str = "light") -> None:
        """Choose the size of the screen and the colour scheme."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.command(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def press(self, *keys: str) -> None:
        """Press keys."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        chain = ActionChains(self._driver)
        for key in keys:
            chain = chain.send_keys(getattr(Keys, key))
        chain.perform()

    def messages(self) -> list[str]:
        """What the console has got since the last call: errors, violations of policies."""
        return [str(entry["message"]) for entry in self._driver.get_log("browser")]

    def screenshot(self, path: Path, height: int | None = None) -> None:
        """Save a picture of the page, from its top."""
        import base64

        size = self.command("Page.getLayoutMetrics")["cssContentSize"]
        clip = {
            "x": 0,
            "y": 0,
            "width": size["width"],
            "height": min(size["height"], height or size["height"]),
            "scale": 1,
        }
        picture = self.command("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def violations(self) -> list[str]:
        """What axe-core finds wrong with the page, one line each."""
        self.run(files(_AXE[0]).joinpath("axe.min.js").read_text("utf-8") + "\nwindow.axe = axe;")
        result = self._driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "window.axe.run().then((found) => done(JSON.stringify(found.violations)), (e) => done(`[${e}]`));"
        )
        return [
            f"{each['id']}: {each['help']}: {[node['html'] for node in each['nodes']][:3]}"
            for each in json.loads(result)
        ]
