"""A headless Chromium spoken to over a pipe: what a page says on its console, asks of the network, and looks like."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium():
    """The browser's path, None if there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page at a time. Events are kept: `errors` of the console, and `requests` other than of the page itself."""

    def __init__(self):
        self.errors, self.requests = [], []
        self._count, self._session, self._loaded, self._rest = 0, None, False, b""
        self._profile = tempfile.mkdtemp(prefix="chromium-")

    def __enter__(self):
        there_in, self._out = os.pipe()
        self._in, there_out = os.pipe()

        def wire():  # the browser reads from 3 and writes to 4
            first, second = os.dup(there_in), os.dup(there_out)
            os.dup2(first, 3)
            os.dup2(second, 4)

        options = (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu-sandbox",
            "--remote-debugging-pipe",
            "--no-first-run",
        )
        options += ("--disable-background-networking", "--disable-extensions", "--hide-scrollbars", "--mute-audio")
        options += ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage")
        self._process = subprocess.Popen(
            [chromium(), *options, f"--user-data-dir={self._profile}", "about:blank"],
            close_fds=False, preexec_fn=wire, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(there_in)
        os.close(there_out)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        os.close(self._in)
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method, **params):
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while (answer := self._next()).get("id") != self._count:
            self._event(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _next(self):
        while b"\0" not in self._rest:
            part = os.read(self._in, 1 << 20)
            if not part:
                raise RuntimeError("the browser ended")
            self._rest += part
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def _event(self, message):
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(json.dumps(params["args"])[:500])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"][:500])
        elif method == "Network.requestWillBeSent":
            address = params["request"]["url"]
            if not address.startswith(("data:", "blob:")) and params["type"] != "Document":
                self.requests.append(address)

    def open(self, path, *, width=1400, height=900):
        """Show a file at a width in CSS pixels, and wait until it is loaded."""
        self.resize(width, height)
        self.errors, self.requests, self._loaded = [], [], False
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        while not self._loaded:
            self._event(self._next())
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def resize(self, width, height=900):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def run(self, code):
        """The value of JavaScript."""
        found = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:500])
        return found["result"].get("value")

    def press(self, key):
        """A key of the keyboard, down and up."""
        text = {"text": "\r"} if key == "Enter" else {}
        code = {"Enter": 13}.get(key, 0)
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def picture(self, path, *, whole=True):
        """A screenshot."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def _clip(self, whole):
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def settle(self, code, *, seconds=20):
        """Wait until JavaScript is true."""
        limit = time.monotonic() + seconds
        while not self.run(code):
            if time.monotonic() > limit:
                raise TimeoutError(code)
