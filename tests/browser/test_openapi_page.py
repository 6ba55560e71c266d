"""The OpenAPI page in a real browser, which asks no other host."""

from pathlib import Path

import pytest
from browser_pages import NewPage
from playwright.sync_api import Locator, expect


@pytest.fixture
def call(new_page: NewPage) -> Locator:
    page = new_page()
    page.goto("/docs")
    call = page.locator("#operations-predict-predict_barrier_predict_barrier_post")
    call.locator(".opblock-summary-control").click()
    call.get_by_role("button", name="Try it out").click()
    return call


def test_it_sends_its_own_example(call: Locator) -> None:
    call.get_by_role("button", name="Execute").click()
    expect(call.locator(".live-responses-table .response-col_status").last).to_contain_text("200")


def test_it_sends_a_form(call: Locator, examples: Path) -> None:
    call.locator(".opblock-section-request-body .content-type").select_option("multipart/form-data")
    call.locator("input[type=file]").first.set_input_files(examples / "LiFePO4_band.extxyz")
    call.get_by_role("button", name="Execute").click()
    expect(call.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
