"""Drives a tab of Chromium; read `started`, then `Browser`."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from websockets.sync.client import ClientConnection, connect

PHONE, DESK, WIDE = 390, 1280, 1600
"""Widths of windows."""
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless=new",
    "--disable-gpu",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--disable-extensions",
    "--hide-scrollbars",
]
TIME = 30.0  # seconds for a page; it takes less than one
KEYS = {"Enter": ("\r", 13), "Tab": ("\t", 9), "Escape": ("", 27), " ": (" ", 32)}
KEYS |= {"ArrowLeft": ("", 37), "ArrowUp": ("", 38), "ArrowRight": ("", 39), "ArrowDown": ("", 40)}


def chromium() -> str | None:
    """The program of a browser that is installed, or what $CHROMIUM names."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def needed() -> str:
    """The program; the test that asks is skipped where there is none."""
    import pytest

    found = chromium()
    if found is None:
        pytest.skip("no Chromium is installed, and $CHROMIUM names none")
    return found


@contextmanager
def started(program: str) -> Iterator[Browser]:
    """A browser of its own, without anything of the user's; it is ended afterwards."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        if os.geteuid() == 0:
            command.insert(1, "--no-sandbox")  # it refuses to run as root with one
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with connect(_address(Path(folder)), max_size=None) as socket:
                yield Browser(socket)
        finally:
            running.terminate()
            running.wait(timeout=TIME)


class Browser:
    """A tab of a browser.  `complaints` are errors and warnings of its pages, and what they ask of other machines."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.number = 0
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.loaded = False
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: object) -> dict[str, Any]:
        """The answer to a command of the protocol."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=TIME))
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                answer: dict[str, Any] = message["result"]
                return answer
            self.hear(message)

    def hear(self, message: dict[str, Any]) -> None:
        """Note what a page asks for and complains of, and that it is loaded."""
        params = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self.loaded = True
            case "Runtime.exceptionThrown":
                self.complaints.append(
                    str(params["exceptionDetails"].get("exception", {}).get("description"))
                )
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
                if _elsewhere(params["request"]["url"]):
                    self.complaints.append(f"asks for {params['request']['url']}")

    def open(self, url: str) -> None:
        """Load a page and wait for it."""
        self.loaded = False
        self.ask("Page.navigate", url=url)
        while not self.loaded:
            self.hear(json.loads(self.socket.recv(timeout=TIME)))

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript is on the page; of a promise, what it is kept with."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = TIME) -> Any:
        """What an expression is, once it is true.

        Raises:
            TimeoutError: when it stays false.
        """
        end = time.monotonic() + seconds
        while not (found := self.value(expression)):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} is still {found!r}")
            time.sleep(0.02)
        return found

    def click(self, selector: str) -> None:
        """Click into the middle of the element that a CSS selector names."""
        x, y = self.middle(selector)
        self.drag([(x, y)])

    def middle(self, selector: str) -> tuple[float, float]:
        """Where in the window the middle of an element is, once it is scrolled into sight."""
        found = self.value(
            f"(one => {{ one.scrollIntoView({{block: 'center', behavior: 'instant'}});"
            " const box = one.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2] })"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        return found[0], found[1]

    def drag(self, points: list[tuple[float, float]]) -> None:
        """Press the mouse at the first point, move it through the others, and let go at the last."""
        for kind, (x, y) in [
            ("mouseMoved", points[0]),
            ("mousePressed", points[0]),
            *(("mouseMoved", one) for one in points[1:]),
            ("mouseReleased", points[-1]),
        ]:
            held = 0 if kind == "mouseReleased" or (kind, (x, y)) == ("mouseMoved", points[0]) else 1
            self.ask(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=held, clickCount=1
            )

    def type(self, text: str) -> None:
        """Type text where the focus is."""
        self.ask("Input.insertText", text=text)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key, such as `Tab`, `Enter`, `ArrowDown` or `a`."""
        text, code = KEYS.get(key, (key, ord(key[0].upper())))
        values = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **values, **({"text": text} if text else {}))
        self.ask("Input.dispatchKeyEvent", type="keyUp", **values)

    def wide(self, width: int, height: int = 844) -> None:
        """Make the window as wide as that of a phone, or another."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)

    def colours(self, scheme: str) -> None:
        """Say what the reader prefers, "dark" or "light"."""
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what the window shows as PNG; `whole` for all of the page."""
        clip: dict[str, object] = {}
        if whole:
            size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}
        shown = self.ask("Page.captureScreenshot", captureBeyondViewport=whole, **clip)
        path.write_bytes(base64.b64decode(shown["data"]))


def _elsewhere(url: str) -> bool:
    return url.startswith("http") and urlsplit(url).hostname != "127.0.0.1"


def _address(folder: Path) -> str:
    """Where a browser that just started listens: the address of its first tab."""
    end = time.monotonic() + TIME
    port = folder / "DevToolsActivePort"
    while time.monotonic() < end:
        if port.is_file() and port.read_text().count("\n"):
            with urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json") as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            if tabs:
                return str(tabs[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise TimeoutError("the browser did not start")
