"""Debian's Chromium, pages that are watched, and what the tests of the page do again and again."""

import base64
import io
import shutil
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import ConsoleMessage, Page, Request, expect

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
#: Graphics by software: a test machine has no GPU.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
WAIT_MS = 60_000

NewPage = Callable[..., Page]
Picture = NDArray[np.int16]

#: A pixel that changes by less, of 255, has not changed: graphics round.
SAME_COLOUR = 20
#: Pictures of which fewer pixels changed look the same; the thinnest path is more.
SAME_SHARE = 5e-4


class Watch:
    """Notes what must not happen on a page.

    Attributes:
        faults: scripts that failed, errors and warnings on the console, requests to another host.
        requests: what was asked of the service, as "METHOD path".
        allowed: words of console messages that this test brings about.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.allowed: list[str] = []

    def follow(self, page: Page) -> None:
        page.on("request", self._request)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._console)

    def _request(self, request: Request) -> None:
        self.requests.append(f"{request.method} {request.url.removeprefix(self._url)}")
        if not request.url.startswith((self._url, "data:", f"blob:{self._url}")):
            self.faults.append(f"asked {request.url}")

    def _console(self, message: ConsoleMessage) -> None:
        text = message.text
        if message.type in {"error", "warning"} and not any(words in text for words in self.allowed):
            if "GPU stall due to ReadPixels" in text:  # Chromium's own word on graphics by software
                return
            self.faults.append(f"{message.type}: {text}")


def take_example(page: Page, formula: str) -> None:
    """Press an example and wait until its result is there, picture and all."""
    before = page.url
    page.locator("ul.examples").get_by_role("button", name=formula).click()
    expect(page).not_to_have_url(before)  # its own link: an earlier result stays on the page until the new one is there
    expect(page.locator("#barrier")).to_contain_text("eV")
    expect(page.get_by_role("list", name="Colours of the atoms").get_by_role("listitem").first).to_be_visible()


def picture(page: Page) -> Picture:
    """The drawn crystal as it looks now, shape [height, width, 3]."""
    data: str = page.evaluate("() => document.querySelector('#view canvas').toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16)


def look_alike(one: Picture, other: Picture) -> bool:
    """Whether two pictures show the same."""
    changed = np.abs(one - other).max(axis=2) > SAME_COLOUR
    return bool(changed.mean() < SAME_SHARE)
