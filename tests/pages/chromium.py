"""Headless Chromium over its DevTools protocol, for tests of built pages; standard library only.

The browser gets no network: names do not resolve, and whatever gets past that goes to a proxy that is not there.
Protocol: https://chromedevtools.github.io/devtools-protocol/, messages as JSON ended by a zero byte on descriptors
3 (to the browser) and 4 (from it), as `--remote-debugging-pipe` asks for.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_DISABLED = ("gpu", "dev-shm-usage", "background-networking", "component-update", "extensions")
_FLAGS = (
    *(f"--disable-{name}" for name in _DISABLED),
    *("--headless", "--no-sandbox", "--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe"),
    *("--proxy-server=127.0.0.1:9", "--proxy-bypass-list=<-loopback>"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


class ChromiumError(RuntimeError):
    """The browser did not start, did not answer in time, or refused a command."""


def find_chromium() -> str | None:
    """Path of an installed Chromium or Chrome; None without one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Page:
    """One tab. `events` holds what the browser reported since the last `open`, in order."""

    process: subprocess.Popen[bytes]
    to_browser: int
    from_browser: int
    session: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    _buffer: bytes = b""
    _last_id: int = 0

    def send(self, method: str, timeout_s: float = 60.0, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; events that arrive meanwhile are kept."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        data = memoryview(json.dumps(message).encode() + b"\0")
        while data:
            data = data[os.write(self.to_browser, data) :]
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self._read(deadline, method)
            if answer.get("id") == self._last_id:
                if "error" in answer:
                    raise ChromiumError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, event: str, timeout_s: float = 60.0) -> None:
        """Wait until an event has been reported since the last `open`."""
        deadline = time.monotonic() + timeout_s
        while not any(seen.get("method") == event for seen in self.events):
            self.events.append(self._read(deadline, event))

    def open(self, url: str) -> None:
        """Load an address; afterwards `events` holds all that was reported on the way."""
        self.events.clear()
        self.send("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript, wait for its promise, and return its value; ChromiumError when it throws."""
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.send("Runtime.evaluate", **asked)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise ChromiumError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def press(self, key: str, code: int, shift: bool = False) -> None:
        """Press and release a key, e.g. ("ArrowRight", 39)."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            extra: dict[str, Any] = {"text": text} if text and kind == "keyDown" else {}
            extra |= {"type": kind, "key": key, "code": key}
            self.send("Input.dispatchKeyEvent", windowsVirtualKeyCode=code, modifiers=8 * shift, **extra)

    def resize(self, width: int, height: int = 844) -> None:
        """Give the page a size in CSS pixels; a narrow one is a telephone's."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.send("Emulation.setDeviceMetricsOverride", **size, mobile=width < 600)

    def _read(self, deadline: float, waiting_for: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self.from_browser], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise ChromiumError(f"no answer in time to {waiting_for}")
            chunk = os.read(self.from_browser, 1 << 20)
            if not chunk:
                raise ChromiumError(f"the browser ended while it was asked for {waiting_for}")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


@contextmanager
def open_browser(program: str, profile: Path) -> Iterator[Page]:
    """Start the browser with an empty profile folder and yield its one page; it ends with the block."""
    (their_input, our_output), (our_input, their_output) = (_pipe() for _ in range(2))
    command = [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    # A shell puts the pipes where the browser looks for them.
    redirect = f'exec "$0" "$@" 3<&{their_input} 4>&{their_output}'
    theirs, streams = (their_input, their_output), ("stdin", "stdout", "stderr")
    silent = dict.fromkeys(streams, subprocess.DEVNULL)
    process = subprocess.Popen(["bash", "-c", redirect, *command], pass_fds=theirs, **silent)
    for end in theirs:
        os.close(end)
    try:
        page = Page(process, our_output, our_input)
        targets = page.send("Target.getTargets")["targetInfos"]
        target = next(info["targetId"] for info in targets if info["type"] == "page")
        page.session = page.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.send(f"{domain}.enable")
        yield page
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(our_output)
        os.close(our_input)


def _pipe() -> tuple[int, int]:
    """A pipe whose ends keep clear of descriptors 3 and 4."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
