"""Debian's Chromium and pages that fail their test where a script fails or another host is asked."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import Service, running_service
from browser_pages import ARGUMENTS, CHROMIUM, WAIT_MS, NewPage, Watch
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright


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


# Not for the whole session: while Playwright runs, its event loop keeps asynchronous tests of other files from running.
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    yield browser
    browser.close()


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
