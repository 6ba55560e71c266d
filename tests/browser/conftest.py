"""Debian's Chromium and pages that fail their test where a script fails or another host is asked."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import Service, running_service
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request, expect, sync_playwright

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    missing = not Path(CHROMIUM).exists() and not os.environ.get("CI")
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if missing:
                item.add_marker(pytest.mark.skip(reason="no Chromium here: apt-get install chromium"))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("browser")) as service:
        yield service


@pytest.fixture(scope="session")
def examples(repository: Path) -> Path:
    return repository / "examples"


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    yield browser
    browser.close()


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
        told = message.text
        if message.type in {"error", "warning"} and not any(words in told for words in self.allowed):
            if "GPU stall due to ReadPixels" in told:  # Chromium's own word on graphics by software
                return
            self.faults.append(f"{message.type}: {told}")


@pytest.fixture
def watch(service: Service) -> Watch:
    return Watch(service.url)


@pytest.fixture
def new_page(service: Service, browser: Browser, watch: Watch) -> Iterator[NewPage]:
    """A callable that opens one more page, each with a browser context of its own."""
    contexts = []

    def open_page(**options: Any) -> Page:
        size = {"width": 1280, "height": 800}
        context = browser.new_context(**{"base_url": service.url, "viewport": size, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        watch.follow(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert watch.faults == []


@pytest.fixture
def page(new_page: NewPage) -> Page:
    page = new_page()
    page.goto("/")
    return page
