"""A browser without a screen, driven over WebDriver: what the tests and pictures of Prefect's UI need of it.

python -m tests.look_at_ui URL FOLDER      a picture of a page
"""

import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.host import ports

MISSING = (
    "" if shutil.which("chromedriver") and shutil.which("chromium") else "no chromium with its driver here"
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # without internet, wherever it runs
)  # fmt: skip
WAIT_S = 60.0
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the W3C's name of an element's id
# Text fields that a framework watches: the value is set as the browser itself would.
_SET = """
const [field, value] = arguments;
const kind = field.tagName === 'TEXTAREA' ? HTMLTextAreaElement : HTMLInputElement;
Object.getOwnPropertyDescriptor(kind.prototype, 'value').set.call(field, value);
field.dispatchEvent(new Event('input', {bubbles: true}));
field.dispatchEvent(new Event('change', {bubbles: true}));
"""


class Browser:
    """One page."""

    def __init__(self, session: str) -> None:
        self._session = session

    def go(self, url: str) -> None:
        """Open a page."""
        _ask(f"{self._session}/url", {"url": url})

    def run(self, script: str, *given: object) -> Any:  # noqa: ANN401 - whatever the script returns
        """Run JavaScript with `arguments`; returns what it returns."""
        return _ask(f"{self._session}/execute/sync", {"script": script, "args": list(given)})

    def text(self) -> str:
        """The words on the page."""
        return str(self.run("return document.body.innerText"))

    def until(self, words: str) -> None:
        """Wait until the page shows these words. Raises AssertionError with what it shows."""
        end = time.monotonic() + WAIT_S
        while words not in self.text():
            assert time.monotonic() < end, f"{words!r} is not on the page: {self.text()[:2000]}"
            time.sleep(0.2)

    def find(self, xpath: str) -> dict[str, str]:
        """An element, as soon as it is there."""
        end = time.monotonic() + WAIT_S
        query = {"using": "xpath", "value": xpath}
        while not (found := _ask(f"{self._session}/elements", query)):
            assert time.monotonic() < end, f"{xpath} is not on the page: {self.text()[:2000]}"
            time.sleep(0.2)
        return dict(found[0])

    def click(self, xpath: str) -> None:
        """Click on an element."""
        element = self.find(xpath)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        _ask(f"{self._session}/element/{element[ELEMENT]}/click", {})

    def write(self, xpath: str, text: str) -> None:
        """Put a text into a field."""
        self.run(_SET, self.find(xpath), text)

    def devtools(self, command: str, **parameters: object) -> Any:  # noqa: ANN401 - whatever the command returns
        """Carry out a command of the Chrome DevTools protocol."""
        return _ask(f"{self._session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def errors(self) -> list[str]:
        """What the page's console holds of warnings and errors since the last call."""
        return [str(one["message"]) for one in _ask(f"{self._session}/se/log", {"type": "browser"})]

    def picture(self, path: Path, height: int = 1000, width: int = 1400) -> None:
        """A picture of the page, so many pixels high and wide."""
        _ask(f"{self._session}/window/rect", {"width": width, "height": height})
        time.sleep(0.7)  # the page draws itself anew
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(_ask(f"{self._session}/screenshot")))


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser, with a profile of its own, until the block ends."""
    with tempfile.TemporaryDirectory() as profile:
        port = ports.free(None)
        driver = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        base = f"http://127.0.0.1:{port}"
        try:
            _until_ready(base)
            options = {"args": [*FLAGS, f"--user-data-dir={profile}", "--window-size=1400,1000"]}
            chrome = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "WARNING"}}
            wanted = {"capabilities": {"alwaysMatch": chrome}}
            session = f"{base}/session/{_ask(f'{base}/session', wanted)['sessionId']}"
            try:
                yield Browser(session)
            finally:
                _ask(session, method="DELETE")
        finally:
            driver.terminate()
            driver.wait(10)


def _until_ready(base: str) -> None:
    end = time.monotonic() + WAIT_S
    while True:
        try:
            if _ask(f"{base}/status")["ready"]:
                return
        except OSError:
            assert time.monotonic() < end, "chromedriver does not answer"
        time.sleep(0.1)


def _ask(url: str, body: dict[str, Any] | None = None, method: str = "") -> Any:  # noqa: ANN401 - JSON
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, method=method or None)  # noqa: S310 - loopback
    with opener.open(request, timeout=WAIT_S) as answer:
        return json.load(answer)["value"]


if __name__ == "__main__":
    with browser() as page:
        page.go(sys.argv[1])
        time.sleep(5)
        page.picture(Path(sys.argv[2]) / "page.png", 2000)
        sys.stdout.write(page.text() + "\n")
