"""A headless Chromium, driven through the DevTools protocol over pipes with nothing but the standard library."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 30.0  # seconds; a machine that runs other tests may be slow
SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--disable-dev-shm-usage", "--remote-debugging-pipe", "--window-size=1400,900"),
)
# What a key sends besides its name: the code that a browser acts upon, and the text that it types.
KEY_CODES = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
SHIFT = 8


def program() -> str | None:
    """Path of an installed Chromium."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def selector(path: str) -> str:
    """What finds the node at a path on the page of a graph."""
    return f"[data-path={json.dumps(path)}]"


def rgb(colour: str) -> str:
    """A colour `#rrggbb` as computed styles have it."""
    return f"rgb({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))})"


class Browser:
    """A running Chromium with a profile of its own; a context manager."""

    def __enter__(self) -> Self:
        path = program()
        if path is None:
            raise FileNotFoundError("no Chromium")
        self._profile = tempfile.mkdtemp(prefix="graphnn-browser-")
        to_browser, self._requests = _high_pipe()
        self._answers, from_browser = _high_pipe()
        command = [path, *SWITCHES, f"--user-data-dir={self._profile}", "about:blank"]
        # The browser reads from descriptor 3 and writes to 4; a shell puts ours there.
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser} {to_browser}<&- {from_browser}>&-'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *command], pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._number = b"", 0
        self.events: list[dict[str, Any]] = []
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._requests)  # the browser ends when its pipe does
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._answers)
        shutil.rmtree(self._profile, ignore_errors=True)

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The result of a command; events that come before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._requests, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self.receive(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next message."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(self._answers, 1 << 20) if ready else b""
            if not piece:
                raise TimeoutError(f"the browser is {'gone' if ready else 'silent'}")
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, path: Path, width: int = 1400, height: int = 900, **media: str) -> "Page":
        """A new tab with a file; `media` are features such as prefers_color_scheme="dark"."""
        return Page(self, path, (width, height), media)


class Page:
    """A tab: a file that is shown, what it said and asked for, and what a reader can do."""

    def __init__(self, browser: Browser, path: Path, size: tuple[int, int], media: dict[str, str]):
        self._browser = browser
        self._target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.send("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")
        self._send("Performance.enable", timeDomain="threadTicks")
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self._send("Emulation.setDeviceMetricsOverride", **metrics)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self._send("Emulation.setEmulatedMedia", features=features)
        self._send("Page.navigate", url=path.as_uri())
        self.wait_for("document.documentElement?.dataset.ready === 'true'")

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.send(method, self._session, **parameters)

    def close(self) -> None:
        self._browser.send("Target.closeTarget", targetId=self._target)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, as JSON has it."""
        answer = self._send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.run(expression):
            if time.monotonic() > deadline:
                raise TimeoutError(expression)
            time.sleep(0.01)

    @property
    def seconds(self) -> float:
        """Processor time that the page has taken; time on the wall would measure what else the machine does."""
        metrics = self._send("Performance.getMetrics")["metrics"]
        return next(item["value"] for item in metrics if item["name"] == "TaskDuration")

    @property
    def complaints(self) -> list[str]:
        """Everything that the page wrote to the console, and errors that it raised."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self._events(*kinds)]

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for."""
        return [event["params"]["request"]["url"] for event in self._events("Network.requestWillBeSent")]

    def _events(self, *kinds: str) -> list[dict[str, Any]]:
        self.run("1")  # brings what is under way
        return [e for e in self._browser.events if e.get("sessionId") == self._session and e["method"] in kinds]

    # -- what a reader does -------------------------------------------------------------------------------------------

    def middle(self, selector: str) -> tuple[float, float]:
        """Where an element stands on the screen."""
        find = f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
        return tuple(self.run(find + " return [box.x + box.width / 2, box.y + box.height / 2]; })()"))

    def click(self, selector: str) -> None:
        """A click with the mouse in the middle of an element."""
        self.click_at(*self.middle(selector))

    def click_at(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self._send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(self, x: float, y: float, to_x: float, to_y: float) -> None:
        mouse = {"button": "left", "buttons": 1}
        self._send("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, clickCount=1, **mouse)
        for share in (0.5, 1.0):
            at = {"x": x + (to_x - x) * share, "y": y + (to_y - y) * share}
            self._send("Input.dispatchMouseEvent", type="mouseMoved", **at, **mouse)
        self._send("Input.dispatchMouseEvent", type="mouseReleased", x=to_x, y=to_y, clickCount=1, button="left")

    def wheel(self, x: float, y: float, distance: float) -> None:
        self._send("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=distance)

    def press(self, *keys: str) -> None:
        """Keys, one after the other; `Shift+` before one holds that key."""
        for name in keys:
            key = name.removeprefix("Shift+")
            fields: dict[str, Any] = {"key": key, "modifiers": SHIFT if name.startswith("Shift+") else 0}
            fields["windowsVirtualKeyCode"] = KEY_CODES.get(key, ord(key.upper()[0]))
            typed = "\r" if key == "Enter" else key if len(key) == 1 else ""
            self._send("Input.dispatchKeyEvent", type="keyDown", **fields, **({"text": typed} if typed else {}))
            self._send("Input.dispatchKeyEvent", type="keyUp", **fields)

    def type(self, text: str) -> None:
        self._send("Input.insertText", text=text)

    def picture(self, path: Path) -> None:
        """A screenshot as PNG."""
        path.write_bytes(base64.b64decode(self._send("Page.captureScreenshot", format="png")["data"]))

    def pdf(self) -> bytes:
        return base64.b64decode(self._send("Page.printToPDF", landscape=False)["data"])


def _high_pipe() -> tuple[int, int]:
    """A pipe whose descriptors are above those that the browser expects."""
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return high
