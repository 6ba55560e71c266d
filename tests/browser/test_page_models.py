"""The page of a service whose model store holds models of barriers and of bulk properties."""

from collections.abc import Iterator

import pytest
from api_server import Service, running_service
from playwright.sync_api import Page, expect
from untrained import write_untrained, write_untrained_properties


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("models")
    write_untrained(folder / "store")
    write_untrained(folder / "store", "second")
    write_untrained_properties(folder / "store")
    with running_service(folder, model_store=folder / "store") as service:
        yield service


def test_only_models_of_barriers_can_be_chosen(page: Page) -> None:
    names = page.locator("#model option")
    expect(names).to_have_text(["default (default)", "second"])
    expect(page.locator("#model")).to_have_value("default")
