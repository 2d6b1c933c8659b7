"""Pictures of a report in a browser without a screen: desktop, dark, phone and print; it fails on any error.

python -m tests.look_at_report FILE.html FOLDER      desktop.png dark.png phone.png print.png print.pdf

`readme.png` is the top of the page, as the README shows it.
"""

import base64
import sys
import time
from pathlib import Path

from tests.look_at_ui import Browser, browser

TALLEST = 12_000
# Width, height and ratio of the pixels; the medium, the colours that the reader prefers; how much is shown.
LOOKS = {
    "desktop": (1280, 900, 1, "screen", "light", TALLEST),
    "dark": (1280, 900, 1, "screen", "dark", TALLEST),
    "phone": (390, 844, 2, "screen", "light", TALLEST),
    "print": (794, 1123, 1, "print", "light", TALLEST),
    "readme": (1000, 900, 1, "screen", "light", 815),
}
_WIDTHS = "return [document.documentElement.scrollWidth, window.innerWidth]"
_HEIGHT = "return document.documentElement.scrollHeight"


def pictures(report: Path, folder: Path) -> dict[str, float]:
    """Take every picture; returns how many seconds the report took to open, by look.

    Raises:
        AssertionError: the console has an error, or the page is wider than its window.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with browser() as page:
        return {look: _picture(page, report, folder, look) for look in LOOKS}


def _picture(page: Browser, report: Path, folder: Path, look: str) -> float:
    width, height, ratio, medium, colours, tallest = LOOKS[look]
    size = {"width": width, "deviceScaleFactor": ratio, "mobile": ratio > 1}
    page.devtools("Emulation.setDeviceMetricsOverride", height=height, **size)
    scheme = {"name": "prefers-color-scheme", "value": colours}
    page.devtools("Emulation.setEmulatedMedia", media=medium, features=[scheme])
    began = time.monotonic()
    page.go(report.absolute().as_uri())
    took = time.monotonic() - began
    wide, window = page.run(_WIDTHS)
    assert wide <= window, f"{look}: {wide} px wide in a window of {window} px"
    tall = min(int(page.run(_HEIGHT)), tallest)
    clip = {"x": 0, "y": 0, "width": width, "height": tall, "scale": 1}
    shot = page.devtools("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
    (folder / f"{look}.png").write_bytes(base64.b64decode(shot["data"]))
    if medium == "print":
        paper = page.devtools("Page.printToPDF", preferCSSPageSize=True)
        (folder / "print.pdf").write_bytes(base64.b64decode(paper["data"]))
    errors = page.errors()
    assert not errors, f"{look}: {errors}"
    return took


if __name__ == "__main__":
    for name, seconds in pictures(Path(sys.argv[1]), Path(sys.argv[2])).items():
        sys.stdout.write(f"{name}: opened in {seconds:.2f} s\n")
