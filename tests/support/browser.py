"""A real browser for tests: Debian's chromium without a window, with axe-core, which checks accessibility."""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.support import servers

AXE = "4.14.1"
AXE_SHA256 = "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"  # of the package
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
# A clock that the test moves; it goes on over reloads. Timers of the page run at each step.
CLOCK = """
  const real = Date.now, timers = [];
  Date.now = () => real() + Number(window.name);
  window.setInterval = (run) => timers.push(run);
  window.pass = (milliseconds) => { window.name = Number(window.name) + milliseconds; timers.forEach((run) => run()); };
"""
LOADED = """const done = arguments[0];
  if (document.readyState === "complete") done(); else addEventListener("load", done)"""
DESK = (1600, 1000)
TELEPHONE = (390, 844)


def axe() -> str:
    """Return axe-core. npm fetches it once for all checkouts; its checksum is checked."""
    kept = user_cache_path("halfpipe") / f"axe-core-{AXE}.min.js"
    if kept.exists():
        return kept.read_text()
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["npm", "pack", "--silent", f"axe-core@{AXE}"], cwd=name, check=True)
        (package,) = Path(name).glob("*.tgz")
        content = package.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != AXE_SHA256:
        raise ValueError(f"axe-core {AXE}: the SHA-256 is {found}, and should be {AXE_SHA256}")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(script.read())
    return kept.read_text()


@dataclass
class Browser:
    """An open browser, with the console messages and requests of its pages."""

    driver: webdriver.Chrome

    def complaints(self) -> list[str]:
        """Return the console messages since the last call."""
        return [entry["message"] for entry in self._log("browser")]

    def asked(self) -> list[str]:
        """Return all requests since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return found

    def look(self, size: tuple[int, int], *, dark: bool = False) -> None:
        """Set the size in pixels, and a light or dark scheme."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    @contextmanager
    def clock(self) -> Iterator[Callable[[float], None]]:
        """Give the next pages a clock; it is moved by a function of seconds, which waits for a page that reloads."""
        made = self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": CLOCK})

        def move(seconds: float) -> None:
            self.driver.execute_script("pass(arguments[0])", 1000 * seconds)
            time.sleep(0.1)  # a reload begins
            self.driver.execute_async_script(LOADED)

        try:
            yield move
        finally:
            self.driver.execute_script("window.name = ''")
            self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", made)

    def faults(self) -> list[str]:
        """Return the serious faults that axe-core finds on the page, each as its rule and first element."""
        self.driver.execute_script(axe())
        found: dict[str, Any] = self.driver.execute_async_script(
            "axe.run({resultTypes: ['violations']}).then(arguments[arguments.length - 1])"
        )
        return [
            f"{each['id']}: {each['nodes'][0]['html']}"
            for each in found["violations"]
            if each["impact"] in {"serious", "critical"}
        ]


@contextmanager
def browser() -> Iterator[Browser]:
    servers.needed("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
