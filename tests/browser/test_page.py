"""The page is asked: files, examples, the ion, progress, a stop, errors, links."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from api_server import Service
from browser_pages import NewPage, Watch, take_example
from PIL import Image
from playwright.sync_api import Page, Route, expect

EXAMPLES = [("LiFePO₄", "Li"), ("LiCoO₂", "Li"), ("Li₇La₃Zr₂O₁₂", "Li"), ("Na₃PS₄", "Na"), ("MgMn₂O₄", "Mg")]
TWO_IONS = b"""Li Na O
1.0
4.6 0 0
0 4.6 0
0 0 4.6
Na Li O
4 4 4
Direct
"""


def file(name: str, content: bytes) -> Any:
    return {"name": name, "mimeType": "text/plain", "buffer": content}


@pytest.mark.parametrize(("formula", "ion"), EXAMPLES)
def test_an_example_shows_its_hops_and_where_they_lead(page: Page, formula: str, ion: str) -> None:
    take_example(page, formula)
    assert page.locator("#answer-title").text_content() == f"{ion} in {formula}".translate(SUBSCRIPTS)
    expect(page.locator("#hops tbody tr").first).to_contain_text(re.compile("good|poor"))
    expect(page.locator("#percolation li")).to_have_count(3)
    expect(page.get_by_label("Ion that moves")).to_have_value(ion)


SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")


def test_a_chosen_file_suggests_its_ion_and_is_predicted(page: Page, examples: Path) -> None:
    expect(page.get_by_role("button", name="Predict")).to_be_disabled()
    page.get_by_label("Drop files here").set_input_files(examples / "Na3PS4.cif")
    expect(page.get_by_label("Ion that moves")).to_have_value("Na")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#barrier")).to_contain_text("eV")


def test_of_several_ions_the_one_that_is_pressed_is_meant(page: Page) -> None:
    page.get_by_label("Drop files here").set_input_files(file("POSCAR", TWO_IONS))
    choices = page.get_by_role("group", name="Ions suggested by the composition")
    expect(choices.get_by_role("button")).to_have_text(["Li", "Na"])
    expect(page.get_by_text("Several could move")).to_be_visible()
    choices.get_by_role("button", name="Na").click()
    expect(page.get_by_label("Ion that moves")).to_have_value("Na")
    expect(choices.get_by_role("button", name="Na")).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize(
    ("text", "ions"),
    [
        ("data_x\n_chemical_formula_sum 'Li2 Zn1 Ge1 O4'\n", ["Li", "Zn"]),
        ("data_x\n_publ_author 'Al Na'\n_chemical_formula_sum   Na3PS4\n", ["Na"]),
        ("data_x\nloop_\n_atom_site_label\n_atom_site_fract_x\nMg1 0.5\nCl2 0.1\n", ["Mg"]),
        ("data_x\n_chemical_formula_sum 'Fe2 O3'\n", []),
    ],
)
def test_ions_are_suggested_by_the_composition_alone(page: Page, text: str, ions: list[str]) -> None:
    page.get_by_label("Drop files here").set_input_files(file("x.cif", text.encode()))
    expect(page.get_by_role("button", name="Predict")).to_be_enabled()
    choices = page.get_by_role("group", name="Ions suggested by the composition")
    expect(choices.get_by_role("button")).to_have_text(ions)


def test_a_file_can_be_dropped_anywhere(page: Page, examples: Path) -> None:
    script = """(text) => {
        const data = new DataTransfer();
        data.items.add(new File([text], "LiCoO2.cif"));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(script, (examples / "LiCoO2.cif").read_text())
    expect(page.locator("#chosen")).to_have_text("LiCoO2.cif")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#barrier")).to_contain_text("eV")


@pytest.mark.parametrize(
    "names",
    [
        ["LiFePO4_band.json"],
        ["LiFePO4_band.extxyz"],
        ["LiFePO4_neb.zip"],
        ["LiFePO4_initial.cif", "LiFePO4_final.cif"],
    ],
)
def test_a_band_shows_one_barrier_and_its_path(page: Page, examples: Path, names: list[str]) -> None:
    page.get_by_label("Drop files here").set_input_files([examples / name for name in names])
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#barrier")).to_contain_text("eV")
    expect(page.locator("#view canvas").first).to_be_visible()
    expect(page.locator("#chart .hop")).to_have_count(1)
    expect(page.locator("#hops")).to_have_count(0)


def test_progress_is_shown_until_the_result_is_there(page: Page, service: Service) -> None:
    page.evaluate("""() => {
        window.shown = new Set();
        const words = document.getElementById("progress-words");
        new MutationObserver(() => window.shown.add(words.textContent)).observe(words, { childList: true });
    }""")
    page.get_by_text("Options").click()
    page.get_by_label("Longest hop").fill("6")  # not asked by any other test, so it is not in the cache
    take_example(page, "Li₇La₃Zr₂O₁₂")
    shown = page.evaluate("() => [...window.shown]")
    assert shown[0].startswith("Reading")
    assert any(words.startswith("Predicting hops") for words in shown), shown
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()


def test_what_runs_can_be_stopped_and_is_forgotten(page: Page, service: Service, watch: Watch) -> None:
    page.get_by_text("Options").click()
    page.get_by_label("Longest hop").fill("7")
    with page.expect_response("**/classify/good-conductor*") as accepted:
        page.locator("ul.examples").get_by_role("button", name="Li₇La₃Zr₂O₁₂").click()
    path = accepted.value.headers["location"]
    with page.expect_response(lambda response: response.request.method == "DELETE") as deleted:
        page.get_by_role("button", name="Stop").click()
    assert deleted.value.status == 204
    expect(page.get_by_role("status")).to_have_text("Stopped.")
    assert service.client.get(path).status_code == 404
    expect(page.locator("#barrier")).to_have_count(0)


def test_what_is_stopped_on_its_way_to_the_service_does_not_run_there(page: Page, service: Service) -> None:
    held: list[Route] = []
    page.route("**/classify/good-conductor*", lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks what it is given
    with page.expect_request("**/classify/good-conductor*"):
        page.locator("ul.examples").get_by_role("button", name="Li₇La₃Zr₂O₁₂").click()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status")).to_have_text("Stopped.")
    with page.expect_response(lambda response: response.request.method == "DELETE") as deleted:
        held[0].continue_()
    assert deleted.value.status == 204
    assert service.client.get(deleted.value.url).status_code == 404
    expect(page.locator("#barrier")).to_have_count(0)


def test_a_file_that_is_no_crystal_is_reported(page: Page, watch: Watch) -> None:
    watch.allowed.append("400 (Bad Request)")
    page.get_by_label("Drop files here").set_input_files(file("<b>letter</b>.cif", b"Dear Sir or Madam"))
    page.get_by_label("Ion that moves").fill("Li")
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("alert")).to_contain_text("What would be right")
    expect(page.locator("#chosen b")).to_have_count(0)  # a name is text, never markup


def test_the_link_opens_the_result_again(page: Page, new_page: NewPage) -> None:
    take_example(page, "LiCoO₂")
    barrier = page.locator("#barrier").text_content()
    link = page.evaluate("() => location.href")
    assert page.locator("#permalink").get_attribute("href") in link
    elsewhere = new_page()
    elsewhere.goto(link)
    expect(elsewhere.locator("#barrier")).to_have_text(barrier or "")
    expect(elsewhere.locator("#view canvas").first).to_be_visible()
    take_example(page, "Na₃PS₄")
    page.go_back()
    expect(page.locator("#barrier")).to_have_text(barrier or "")


def test_a_link_to_nothing_says_so(page: Page, watch: Watch) -> None:
    watch.allowed.append("404 (Not Found)")
    page.goto("/#prediction=00000000-0000-4000-8000-000000000000")
    expect(page.get_by_role("alert")).to_contain_text("There is no prediction")


def test_the_page_can_be_used_by_keyboard_alone(page: Page) -> None:
    def tab_to(what: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate(f"() => document.activeElement.matches({what!r})"):
                return
        pytest.fail(f"no Tab leads to {what}")

    tab_to('[data-files="LiCoO2.cif"]')
    page.keyboard.press("Enter")
    expect(page.locator("#hops tbody tr").first).to_be_visible()
    assert page.evaluate("() => document.activeElement.id") == "result"
    tab_to("#threshold-range")
    page.keyboard.press("Home")
    expect(page.locator("#verdict")).to_contain_text("Not a good conductor")
    tab_to('[data-hop="1"]')
    page.keyboard.press("Space")
    expect(page.locator('[data-hop="1"]')).to_have_attribute("aria-pressed", "true")
    expect(page.locator('[data-hop="1"]')).to_be_focused()


def test_every_control_has_a_name(page: Page) -> None:
    take_example(page, "LiCoO₂")
    script = """() => [...document.querySelectorAll("button, input, select, a[href], [role=img], [role=application]")]
        .filter((node) => node.checkVisibility())
        .filter((node) => !(node.textContent.trim() || node.ariaLabel || node.labels?.length))
        .map((node) => node.outerHTML.slice(0, 200))"""
    assert page.evaluate(script) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(new_page: NewPage, scheme: str) -> None:
    page = new_page(color_scheme=scheme)
    page.goto("/")
    take_example(page, "LiFePO₄")
    page.locator('[data-hop="2"]').click()
    script = """() => {
        const numbers = (colour) => colour.match(/[0-9.]+/g).map(Number);
        const paper = (node) => {
            for (let at = node; at; at = at.parentElement) {
                const colour = getComputedStyle(at).backgroundColor;
                if ((numbers(colour)[3] ?? 1) > 0) return colour;
            }
            return "rgb(255, 255, 255)";
        };
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        const found = [];
        while (walker.nextNode()) {
            const node = walker.currentNode.parentElement;
            if (!walker.currentNode.textContent.trim() || !node.checkVisibility() || node.closest("svg")) continue;
            found.push([walker.currentNode.textContent, getComputedStyle(node).color, paper(node)]);
        }
        return found;
    }"""
    shown = page.evaluate(script)
    assert len(shown) > 50
    for text, ink, paper in shown:
        lighter, darker = sorted((brightness(ink), brightness(paper)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) > 4.5, (text, ink, paper)  # WCAG's level AA
    assert (brightness(shown[0][1]) < brightness(shown[0][2])) is (scheme == "light")


def brightness(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`."""
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_nothing_is_loaded_but_the_page_s_own_files(page: Page, watch: Watch) -> None:
    take_example(page, "LiCoO₂")
    paths = {request.split()[1].split("?")[0] for request in watch.requests}
    assert "/static/vendor/3dmol/3Dmol-min.js" in paths
    assert {path for path in paths if path.startswith("http")} == set()


@pytest.mark.skipif(
    "IONPATH_TEST_SCREENSHOTS" not in os.environ, reason="set it to a folder to take the docs' pictures"
)
@pytest.mark.parametrize(
    ("name", "formula", "options"),
    [
        ("page-light", "LiFePO₄", {}),
        ("page-dark", "Li₇La₃Zr₂O₁₂", {"color_scheme": "dark"}),
        ("page-phone", "LiCoO₂", {"viewport": {"width": 390, "height": 844}}),
    ],
)
def test_take_the_pictures_of_the_docs(new_page: NewPage, name: str, formula: str, options: dict[str, Any]) -> None:
    folder = Path(os.environ["IONPATH_TEST_SCREENSHOTS"])
    page = new_page(**options)
    page.goto("/")
    take_example(page, formula)
    path = folder / f"{name}.png"
    page.screenshot(path=path)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
