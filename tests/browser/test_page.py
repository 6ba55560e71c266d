"""The page and the OpenAPI page in a real browser, which asks no other host."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import Service, running_service
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WAIT_MS = 60_000

if not Path(CHROMIUM).exists() and not os.environ.get("CI"):
    pytest.skip("no Chromium here: apt-get install chromium", allow_module_level=True)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("browser")) as service:
        yield service


@pytest.fixture(scope="module")
def examples(repository: Path) -> Path:
    return repository / "examples"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(service: Service, browser: Browser) -> Iterator[Page]:
    """A page that fails the test where a script fails or another host is asked."""
    faults: list[str] = []

    def look_at(request: Request) -> None:
        if not request.url.startswith((service.url, "data:", "blob:")):
            faults.append(f"asked {request.url}")

    page = browser.new_page(base_url=service.url)
    page.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    page.on("request", look_at)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
    yield page
    page.close()
    assert faults == []


def test_an_example_crystal_shows_its_hops_and_where_they_lead(page: Page) -> None:
    page.goto("/")
    page.get_by_role("button", name="LiFePO₄ crystal").click()
    expect(page.locator("#barrier")).to_contain_text("eV")
    expect(page.locator("#hops tbody tr").first).to_contain_text("3.00")
    expect(page.locator("#percolation li")).to_have_count(3)
    expect(page.get_by_role("img", name="eV covers 90 %")).to_be_visible()


def test_a_chosen_file_is_recognised_and_predicted(page: Page, examples: Path) -> None:
    page.goto("/")
    expect(page.get_by_role("button", name="Predict")).to_be_disabled()
    page.get_by_label("Drop files here").set_input_files(examples / "LiCoO2.cif")
    expect(page.get_by_role("combobox", name="Ion")).to_have_value("Li")
    page.get_by_label("Good below").fill("0.01")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".verdict")).to_contain_text("Not a good conductor")


@pytest.mark.parametrize("button", ["band", "NEB folder", "two end points"])
def test_a_band_shows_one_barrier(page: Page, button: str) -> None:
    page.goto("/")
    page.get_by_role("button", name=button, exact=True).click()
    expect(page.locator("#barrier")).to_contain_text("eV")
    expect(page.locator("#hops")).to_have_count(0)


def test_a_file_that_is_no_crystal_is_told_in_words(page: Page) -> None:
    page.goto("/")
    not_crystal = {"name": "<b>letter</b>.cif", "mimeType": "text/plain", "buffer": b"Dear Sir or Madam"}
    page.get_by_label("Drop files here").set_input_files(not_crystal)  # type: ignore[arg-type] # a FilePayload
    page.get_by_role("combobox", name="Ion").fill("Li")
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("alert")).to_contain_text("What would be right")
    expect(page.locator("#chosen b")).to_have_count(0)  # a name is text, never markup


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type] # a literal of playwright's
    page.goto("/")
    script = "() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]; }"
    ink, paper = (brightness(colour) for colour in page.evaluate(script))
    assert (ink < paper) is (scheme == "light")
    lighter, darker = max(ink, paper), min(ink, paper)
    assert (lighter + 0.05) / (darker + 0.05) > 7  # contrast as WCAG's level AAA asks it


def brightness(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`."""
    parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_page_can_be_used_by_keyboard_alone(page: Page) -> None:
    page.goto("/")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.dataset.files") == "LiFePO4_band.json":
            break
    page.keyboard.press("Enter")
    expect(page.locator("#barrier")).to_contain_text("eV")


def test_the_openapi_page_sends_its_own_example(page: Page) -> None:
    page.goto("/docs")
    call = page.locator("#operations-predict-predict_barrier_predict_barrier_post")
    call.locator(".opblock-summary-control").click()
    call.get_by_role("button", name="Try it out").click()
    call.get_by_role("button", name="Execute").click()
    expect(call.locator(".live-responses-table .response-col_status").last).to_contain_text("200")


def test_the_openapi_page_sends_a_form(page: Page, examples: Path) -> None:
    page.goto("/docs")
    call = page.locator("#operations-predict-predict_barrier_predict_barrier_post")
    call.locator(".opblock-summary-control").click()
    call.get_by_role("button", name="Try it out").click()
    call.locator(".opblock-section-request-body .content-type").select_option("multipart/form-data")
    call.locator("input[type=file]").first.set_input_files(examples / "LiFePO4_band.extxyz")
    call.get_by_role("button", name="Execute").click()
    expect(call.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
