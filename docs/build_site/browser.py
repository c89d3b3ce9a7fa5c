"""Looks at the built site in Chromium: `python -m build_site.browser SITE [--pictures FOLDER] [PAGE ...]`.

It speaks the DevTools protocol to a browser that it starts, and serves the site to it on this machine.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from websockets.sync.client import ClientConnection, connect

from build_site.links import broken

PHONE, DESK = 390, 1280
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless=new",
    "--disable-gpu",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--disable-extensions",
]
TIME = 30.0  # seconds for a page; it takes less than one


def chromium() -> str | None:
    """The program of a browser that is installed, or what $CHROMIUM names."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A tab of a browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.number = 0
        self.complaints: list[str] = []
        self.loaded = False
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: object) -> dict[str, Any]:
        """The answer to a command."""
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
        """Note what a page complains of, and that it is loaded."""
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
            case "Network.requestWillBeSent" if _elsewhere(params["request"]["url"]):
                self.complaints.append(f"asks for {params['request']['url']}")

    def open(self, url: str) -> None:
        """Load a page and wait for it."""
        self.loaded = False
        self.ask("Page.navigate", url=url)
        while not self.loaded:
            self.hear(json.loads(self.socket.recv(timeout=TIME)))

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript is on the page."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wide(self, width: int) -> None:
        """Make the window as wide as that of a phone, or another."""
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)

    def colours(self, scheme: str) -> None:
        """Say what the reader prefers, "dark" or "light"."""
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path: Path) -> None:
        """Write what the window shows, and what is below it, as PNG."""
        shown = self.ask("Page.captureScreenshot", captureBeyondViewport=False)
        path.write_bytes(base64.b64decode(shown["data"]))


@contextmanager
def browser(program: str) -> Iterator[Browser]:
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


def _elsewhere(url: str) -> bool:
    return url.startswith("http") and urlsplit(url).hostname != "127.0.0.1"


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The address of a server of the site, for this machine alone."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _address(folder: Path) -> str:
    """Where a browser that just started listens: the address of its first tab."""
    from urllib.request import urlopen

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


def faults(shown: Browser, address: str, pages: Sequence[str]) -> Iterator[str]:
    """What is wrong with pages: too wide for a phone, complaints, colours, the search."""
    for page in pages:
        before = len(shown.complaints)
        shown.open(f"{address}/{page}")
        for width in (PHONE, DESK):
            shown.wide(width)
            if (wide := shown.value("document.documentElement.scrollWidth")) > width:
                yield f"{page}: {wide} wide, in a window of {width}"
        brightness = {scheme: _brightness(shown, scheme) for scheme in ("light", "dark")}
        if brightness["light"] < 200 or brightness["dark"] > 60:
            yield f"{page}: the brightness of the page is {brightness}"
        yield from (f"{page}: {one}" for one in shown.complaints[before:])


def _brightness(shown: Browser, scheme: str) -> float:
    """How bright the page is, 0 to 255."""
    shown.colours(scheme)
    colour = shown.value("getComputedStyle(document.body).backgroundColor")
    numbers = [float(one) for one in colour.partition("(")[2].strip(")").split(",")[:3]]
    return sum(numbers) / 3


SEARCHES = {
    "ties": "methods/ties.html",
    "E230": "errors.html",
    "layer_range": "config.html",
}


def search_faults(shown: Browser, address: str) -> Iterator[str]:
    """Words whose page the search does not find."""
    for words, place in SEARCHES.items():
        shown.open(f"{address}/search.html?q={words}")
        done = False
        end = time.monotonic() + TIME
        while not done and time.monotonic() < end:
            done = shown.value(
                "/finished|did not match/.test(document.querySelector('#search-results')?.innerText)"
            )
            time.sleep(0.05)
        found = shown.value("[...document.querySelectorAll('#search-results li a')].map(one => one.href)")
        if not done or not any(place in one for one in found):
            yield f"the search for '{words}' finds {found}, not {place}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is wrong; the exit code."""
    parser = argparse.ArgumentParser(prog="build_site.browser", description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("pages", nargs="*", help="places of pages; by default all")
    parser.add_argument("--pictures", type=Path, help="also write a PNG of each page, narrow and wide")
    given = parser.parse_args(arguments)
    program = chromium()
    if program is None:
        parser.error("no Chromium is installed; $CHROMIUM may name one")
    site = given.site.absolute()
    pages = given.pages or sorted(one.relative_to(site).as_posix() for one in site.rglob("*.html"))
    wrong = [*broken(site)]
    with served(site) as address, browser(program) as shown:
        wrong += faults(shown, address, pages)
        wrong += search_faults(shown, address)
        wrong += search_faults(shown, site.as_uri())
        if given.pictures:
            given.pictures.mkdir(parents=True, exist_ok=True)
            take_pictures(shown, address, pages, given.pictures)
    sys.stdout.write("".join(f"{line}\n" for line in wrong) + f"{len(pages)} pages, {len(wrong)} faults\n")
    return bool(wrong)


def take_pictures(shown: Browser, address: str, pages: Sequence[str], folder: Path) -> None:
    """Two PNGs of each page: light and wide, dark and narrow."""
    for page in pages:
        for width, scheme in ((PHONE, "dark"), (DESK, "light")):
            shown.wide(width)
            shown.colours(scheme)
            shown.open(f"{address}/{page}")
            name = page.removesuffix(".html").replace("/", "-")
            shown.picture(folder / f"{name}-{width}.png")


if __name__ == "__main__":
    sys.exit(main())
