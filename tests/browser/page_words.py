"""What the tests of the page do again and again."""

from playwright.sync_api import Page, expect


def take_example(page: Page, formula: str) -> None:
    """Press an example and wait until its result is there, picture and all."""
    page.locator("ul.examples").get_by_role("button", name=formula).click()
    expect(page.locator("#barrier")).to_contain_text("eV")
    expect(page.get_by_role("list", name="Colours of the atoms").get_by_role("listitem").first).to_be_visible()


def picture(page: Page) -> bytes:
    """The drawn crystal as it looks now."""
    return page.locator("#view canvas").first.screenshot()
