"""Headless Chromium, spoken to by its own protocol over two pipes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
"""None where there is no browser."""

_COMPLAINTS = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}


@dataclass
class Page:
    """A page that was opened, and what the browser told of it."""

    _send: BinaryIO
    _receive: BinaryIO
    _session: str = ""
    _number: int = 0
    requests: list[str] = field(default_factory=list)
    """Addresses that were asked for."""
    complaints: list[str] = field(default_factory=list)
    """What the console shows."""
    is_loaded: bool = False

    def attach(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for name in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{name}.enable")

    def open(self, path: Path) -> None:
        self.requests.clear()
        self.complaints.clear()
        self.is_loaded = False
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not self.is_loaded:
            self._note(self._message())

    def look(self, *, width: int, is_dark: bool) -> None:
        """As on a screen of this width."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def picture(self) -> bytes:
        """The whole page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._send.write(json.dumps(message).encode() + b"\0")
        self._send.flush()
        while True:
            answer = self._message()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _message(self) -> dict[str, Any]:
        content = bytearray()
        while (byte := self._receive.read(1)) != b"\0":
            assert byte, "the browser has ended"
            content += byte
        message: dict[str, Any] = json.loads(content)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        method = event.get("method")
        if method == "Network.requestWillBeSent":
            self.requests.append(event["params"]["request"]["url"])
        elif method == "Page.loadEventFired":
            self.is_loaded = True
        elif method in _COMPLAINTS:
            self.complaints.append(json.dumps(event["params"]))


@contextmanager
def browser() -> Iterator[Page]:
    """A page of a browser that ends with the block."""
    assert CHROMIUM is not None
    to_read, send = os.pipe()
    receive, to_write = os.pipe()
    with TemporaryDirectory(prefix="chromium-") as profile:
        options = f"--headless=new --no-sandbox --disable-gpu --remote-debugging-pipe --user-data-dir={profile}"
        command = f'exec "$0" {options} --no-first-run 3<&{to_read} 4>&{to_write}'
        process = subprocess.Popen(
            ["bash", "-c", command, CHROMIUM], pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        with os.fdopen(send, "wb") as sending, os.fdopen(receive, "rb") as receiving:
            page = Page(sending, receiving)
            try:
                page.attach()
                yield page
                page._session = ""
                page.call("Browser.close")
            finally:
                process.wait(20)
