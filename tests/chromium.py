"""A headless Chromium driven through ChromeDriver's own HTTP interface: pages, scripts, clicks, screenshots, the console."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

CHROMEDRIVER, CHROMIUM = shutil.which("chromedriver"), shutil.which("chromium")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--force-device-scale-factor=1"),
)


class Chromium:
    """One browser; a context manager. ``profile`` is an empty folder."""

    def __init__(self, profile: Path) -> None:
        # Its own choice of a port: one that is looked for here may be taken when it starts.
        self._server = subprocess.Popen([CHROMEDRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        port = next(found[1] for line in self._server.stdout if (found := re.search(r"started successfully on port (\d+)", line)))
        self._url = f"http://127.0.0.1:{port}"
        options = {"binary": CHROMIUM, "args": [*_FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        deadline = time.monotonic() + 60
        while True:
            try:
                self._url += f"/session/{self._call('/session', {'capabilities': {'alwaysMatch': wanted}})['sessionId']}"
                return
            except urllib.error.HTTPError:
                raise
            except OSError:
                if time.monotonic() > deadline:
                    self._server.kill()
                    raise
                time.sleep(0.1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            urllib.request.urlopen(urllib.request.Request(self._url, method="DELETE"), timeout=120).close()
        finally:
            self._server.terminate()
            self._server.wait(120)
            self._server.stdout.close()

    def _call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self._url + path, data), timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            error.add_note(error.read().decode()[:600])
            raise

    def devtools(self, command, **parameters):
        return self._call("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def show(self, path, *, width=1200, height=900, dark=False):
        """Opens a file or an address at a size of the window, in light or dark."""
        phone = width < 600
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])
        self._call("/url", {"url": path.as_uri() if isinstance(path, Path) else path})

    def run(self, script, *arguments):
        """The value that the body of a function returns in the page."""
        return self._call("/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, condition):
        """Waits until an expression in the page is true, and returns its value."""
        deadline = time.monotonic() + 120
        while not (value := self.run(f"return {condition}")):
            assert time.monotonic() < deadline, f"never true in the page: {condition}"
            time.sleep(0.05)
        return value

    def press(self, *keys):
        """Types keys into what has the focus, by their WebDriver code points or names of one character."""
        down_up = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._call("/actions", {"actions": [{"type": "key", "id": "keys", "actions": down_up}]})

    def screenshot(self, path, *, whole=False):
        """A PNG of the window, or of the whole page."""
        extra = {"captureBeyondViewport": True} if whole else {}
        if whole:
            size = self.devtools("Page.getLayoutMetrics")["cssContentSize"]
            extra["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 8000), "scale": 1}
        path.write_bytes(base64.b64decode(self.devtools("Page.captureScreenshot", format="png", **extra)["data"]))

    def console(self):
        """Warnings and errors that the page and the browser have logged since the last call."""
        lines = self._call("/se/log", {"type": "browser"})
        return [line["message"] for line in lines if line["level"] in ("WARNING", "SEVERE")]
