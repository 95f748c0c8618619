"""
Debian's Chromium without a window, driven over its own pipe (the DevTools protocol).

Rules of this file:

- No package drives it: messages are JSON between NUL octets on descriptors 3 and 4.
- Each browser has a profile of its own in a temporary folder, and is ended by its pid.
- Every wait is for an event, and bounded. Events are kept until somebody asks for them.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


PATIENCE = 30.0
"""Seconds for one answer or event: a cold start on a busy machine takes ten."""

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it cannot have one as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-pipe",
    "about:blank",
)

Message = dict[str, Any]


def needs_chromium() -> str:
    """
    Return where the browser is, or skip loudly.
    """
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("NOT CHECKED: no browser has shown the page (apt install chromium)")
    return found


class Browser:
    """
    One page. *said* and *asked* hold what came to its console, and each address that
    it wanted, since the page was opened.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._rest = b""
        self._numbers = itertools.count(1)
        self._session: dict[str, str] = {}
        self._events: list[Message] = []
        self.said: list[str] = []
        self.asked: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    # -- the protocol -----------------------------------------------------------------

    def call(self, method: str, **params: object) -> Message:
        """
        Return the result of *method*. Raises RuntimeError with what the browser says.
        """
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params, **self._session}
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        answer = self._await(lambda told: told.get("id") == number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def event(self, method: str) -> Message:
        """
        Wait until *method* is told, unless it was told since the last `forget`.
        """
        for told in self._events:
            if told["method"] == method:
                return told["params"]
        return self._await(lambda told: told.get("method") == method)["params"]

    def forget(self) -> None:
        """
        Wait for what is still to come: events told until now are no answer to it.
        """
        self._events.clear()

    def _await(self, wanted: Callable[[Message], bool]) -> Message:
        end = time.monotonic() + PATIENCE
        while True:
            told = self._next(end)
            if "method" in told:
                self._note(told)
            if wanted(told):
                return told

    def _next(self, end: float) -> Message:
        while b"\0" not in self._rest:
            if not select.select([self._reading], [], [], end - time.monotonic())[0]:
                raise TimeoutError("the browser says nothing")
            octets = os.read(self._reading, 1 << 20)
            if not octets:
                raise EOFError("the browser has gone")
            self._rest += octets
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, told: Message) -> None:
        self._events.append(told)
        params = told["params"]
        match told["method"]:
            case "Network.requestWillBeSent":
                self.asked.append(params["request"]["url"])
            case "Log.entryAdded":
                self.said.append(params["entry"]["text"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                self.said.append(json.dumps(params))

    # -- what a person does -----------------------------------------------------------

    def open(self, url: str) -> None:
        """
        Open *url* and wait until it is there.
        """
        self.said.clear()
        self.asked.clear()
        self.leading_to_a_page(lambda: self.call("Page.navigate", url=url))

    def leading_to_a_page(self, deed: Callable[[], object]) -> None:
        """
        Do *deed*, and wait for the page that it leads to.
        """
        self.forget()
        deed()
        self.event("Page.loadEventFired")

    def ask(self, script: str) -> Any:
        """
        Return what *script*, an expression, is in the page.
        """
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def click(self, selector: str) -> None:
        """
        Press the mouse where the first element of *selector* is.
        """
        spot = self.ask(
            f"(e => {{ e.scrollIntoView(); const r = e.getClientRects()[0];"
            " return {x: r.x + r.width / 2, y: r.y + r.height / 2} })"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                button="left",
                clickCount=1,
                **spot,
            )

    def type(self, text: str) -> None:
        """
        Type *text* where the cursor is, and Enter.
        """
        self.call("Input.insertText", text=text)
        enter = {"key": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self.call("Input.dispatchKeyEvent", type="keyDown", **enter)
        self.call("Input.dispatchKeyEvent", type="keyUp", **enter)

    def window(self, width: int, height: int) -> None:
        """
        Be so large, in pixels: a phone's width too.
        """
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def scheme(self, name: str) -> None:
        """
        Prefer the colours of *name*: light or dark.
        """
        feature = {"name": "prefers-color-scheme", "value": name}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def picture(self, *, whole: bool = False) -> bytes:
        """
        Return a PNG of what is seen; of the *whole* page, also what is below.
        """
        told = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(told["data"])


@contextmanager
def browsing() -> Iterator[Browser]:
    """
    Yield a browser; skips where there is none.
    """
    chromium = needs_chromium()
    theirs_in, ours_out = _pipe()
    ours_in, theirs_out = _pipe()
    with contextlib.ExitStack() as stack:
        profile = tempfile.mkdtemp(prefix="popfetchd-browser-")
        stack.callback(shutil.rmtree, profile, ignore_errors=True)
        process = _start(chromium, profile, theirs_in, theirs_out)
        stack.callback(_end, process)
        for end in (ours_in, ours_out):
            stack.callback(os.close, end)
        for end in (theirs_in, theirs_out):
            os.close(end)
        yield Browser(ours_in, ours_out)


def _pipe() -> tuple[int, int]:
    # Above the descriptors that the browser's ends are put on.
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return high[0], high[1]


def _start(
    chromium: str, profile: str, reading: int, writing: int
) -> subprocess.Popen[bytes]:
    # The shell puts the pipe where the browser looks for it: descriptors 3 and 4.
    line = f'exec "$0" "$@" 3<&{reading} 4>&{writing}'
    words = ["bash", "-c", line, chromium, f"--user-data-dir={profile}", *FLAGS]
    return subprocess.Popen(
        words,
        pass_fds=(reading, writing),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
