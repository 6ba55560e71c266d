"""The page of a service with API keys: the key is asked for and kept in the tab alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import Service, running_service
from browser_pages import NewPage, Watch, take_example
from playwright.sync_api import Page, expect

from app.api.keys import new_key


@pytest.fixture(scope="module")
def secret() -> tuple[str, str]:
    return new_key("alice")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, secret: tuple[str, str], store: Path) -> Iterator[Service]:
    folder: Path = tmp_path_factory.mktemp("keys")
    (folder / "keys").write_text(f"{secret[1]}\n")
    with running_service(folder, model_store=store, api_keys_file=folder / "keys") as service:
        yield service


def use_key(page: Page, secret: str) -> None:
    page.get_by_label("API key").fill(secret)
    page.get_by_role("button", name="Use key").click()


def test_the_key_is_asked_for_and_kept_in_this_tab_alone(
    page: Page, new_page: NewPage, watch: Watch, secret: tuple[str, str]
) -> None:
    watch.allowed.append("401 (Unauthorized)")
    expect(page.get_by_role("alert")).to_contain_text("needs an API key")
    use_key(page, "wrong")
    expect(page.get_by_role("alert")).to_contain_text("not known")
    use_key(page, secret[0])
    expect(page.get_by_role("alert")).to_have_count(0)
    take_example(page, "LiCoO₂")
    with page.expect_download() as taken:
        page.get_by_role("button", name="Table (CSV)").click()
    assert taken.value.failure() is None
    page.reload()
    expect(page.locator("#barrier")).to_contain_text("eV")
    assert page.evaluate("() => [document.cookie, localStorage.length]") == ["", 0]
    assert secret[0] not in page.url
    assert not [request for request in watch.requests if secret[0] in request]

    elsewhere = new_page()
    elsewhere.goto(page.url)
    expect(elsewhere.get_by_role("alert")).to_contain_text("needs an API key")
    use_key(elsewhere, secret[0])
    expect(elsewhere.locator("#barrier")).to_contain_text("eV")
