"""The result: picture, table, chart, percolation and verdict, which follow one threshold and one picked hop."""

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import Service, running_service
from browser_pages import ARGUMENTS, CHROMIUM, NewPage, Watch, look_alike, picture, take_example
from playwright.sync_api import Page, Playwright, expect

PREDICTED = "#barrier, #verdict, #percolation, #view, #chart"


@pytest.fixture
def olivine(page: Page) -> Page:
    take_example(page, "LiFePO₄")
    return page


def answer_of(page: Page, service: Service, **query: str) -> dict[str, object]:
    number = page.evaluate("() => location.hash.split('=')[1]")
    found: dict[str, object] = service.client.get(f"/predictions/{number}", params=query).json()
    return found


def test_the_first_result_is_seen_without_scrolling(olivine: Page) -> None:
    assert olivine.evaluate("() => scrollY") == 0
    boxes = [found.bounding_box() for found in olivine.locator(PREDICTED).all()]
    assert len(boxes) == 5
    for box in boxes:
        assert box is not None
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 800
        assert box["x"] + box["width"] <= 1280


@pytest.mark.parametrize("formula", ["LiFePO₄", "Li₇La₃Zr₂O₁₂"])
def test_a_phone_shows_it_all_in_its_width(new_page: NewPage, formula: str) -> None:
    page = new_page(viewport={"width": 360, "height": 740})
    page.goto("/")
    take_example(page, formula)
    expect(page.locator("#barrier")).to_be_in_viewport()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    for found in page.locator(PREDICTED).all():
        box = found.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360


def test_the_conductivity_is_shown_with_what_speaks_for_and_against(olivine: Page, service: Service) -> None:
    found = answer_of(olivine, service)["conductivity"]
    assert isinstance(found, dict)
    panel = olivine.locator("#conductivity")
    digits, exponent = f"{10 ** found['log10_conductivity_s_per_cm']:.1e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    expect(panel).to_contain_text(f"{digits}·10{raised} S/cm, 90 % interval")
    expect(panel).to_contain_text(f"{round(100 * found['probability_above']['1e-4'])} % chance of more than 10⁻⁴ S/cm")
    for influence in found["influences"]:
        expect(panel).to_contain_text(influence["text"])


def test_a_band_and_other_ions_have_no_conductivity(page: Page) -> None:
    take_example(page, "Na₃PS₄")
    expect(page.locator("#barrier")).to_be_visible()
    expect(page.locator("#conductivity")).to_have_count(0)


def test_the_table_highlights_the_path_it_names(olivine: Page, service: Service) -> None:
    hops = answer_of(olivine, service)["hops"]
    assert isinstance(hops, list)
    before = picture(olivine)
    olivine.get_by_role("button", name="Hop 2: show its path").click()
    shown = picture(olivine)
    assert not look_alike(shown, before)
    expect(olivine.locator("#hops tr.picked")).to_contain_text(f"{hops[1]['barrier_ev']:.3f}")
    expect(olivine.locator("#chart .hop.picked .number")).to_have_text("2")
    olivine.get_by_role("button", name="Hop 1: show its path").click()
    assert not look_alike(picture(olivine), before)
    assert not look_alike(picture(olivine), shown)
    olivine.get_by_role("button", name="Hop 1: show its path").click()
    expect(olivine.locator("#hops tr.picked")).to_have_count(0)
    assert look_alike(picture(olivine), before)


def test_percolation_names_the_hops_that_set_it_and_shows_them(olivine: Page, service: Service) -> None:
    percolation = answer_of(olivine, service)["percolation_ev"]
    assert isinstance(percolation, dict)
    cards = olivine.locator("#percolation li")
    for card, name in zip(cards.all(), ("1d", "2d", "3d"), strict=True):
        expect(card).to_contain_text("never" if percolation[name] is None else f"{percolation[name]:.3f} eV")
    one_d = answer_of(olivine, service)["percolation"]["1d"]  # type: ignore[index]  # a crystal's answer has it
    number = one_d["bottleneck_hops"][0] + 1
    cards.nth(0).get_by_role("button", name=f"hop {number}", exact=True).click()
    expect(olivine.locator("#hops tr.picked button")).to_have_text(str(number))


def test_the_chart_tells_each_barrier_and_interval(olivine: Page, service: Service) -> None:
    hops = answer_of(olivine, service)["hops"]
    assert isinstance(hops, list)
    chart = olivine.get_by_role("img", name="Barriers of")
    label = chart.get_attribute("aria-label") or ""
    for number, hop in enumerate(hops, start=1):
        low, high = hop["interval_ev"]["low"], hop["interval_ev"]["high"]
        assert f"{number}: {hop['barrier_ev']:.2f} ({low:.2f} to {high:.2f})" in label
    dots = [dot.bounding_box() for dot in chart.locator(".barrier").all()]
    assert [box["x"] for box in dots if box] == sorted(box["x"] for box in dots if box)  # as the barriers rise
    chart.locator(".hop").nth(1).click()
    expect(olivine.locator("#hops tr.picked button")).to_have_text("2")


def test_the_threshold_judges_anew_without_a_request(olivine: Page, service: Service, watch: Watch) -> None:
    expect(olivine.locator("#verdict")).to_contain_text("Good conductor")
    asked, before = len(watch.requests), picture(olivine)
    olivine.get_by_label("Good below").fill("0.1")
    expect(olivine.locator("#verdict")).to_contain_text("Not a good conductor")
    expect(olivine.locator("#hops td.verdict.poor")).to_have_count(2)
    expect(olivine.locator("#percolation li.poor")).to_have_count(2)
    expect(olivine.get_by_label("Threshold, eV")).to_have_value("0.1")
    assert not look_alike(picture(olivine), before)
    assert len(watch.requests) == asked
    olivine.get_by_label("Good below").fill("2.5")
    expect(olivine.locator("#hops td.verdict.good")).to_have_count(2)
    assert len(watch.requests) == asked


@pytest.mark.parametrize("threshold_ev", [0.12, 0.3, 0.9])
def test_the_chance_at_a_threshold_is_the_service_s(
    page: Page, service: Service, examples: Path, threshold_ev: float
) -> None:
    form = {"structure": ("LiFePO4.cif", (examples / "LiFePO4.cif").read_bytes())}
    query = {"threshold_ev": threshold_ev}
    asked = service.client.post("/predict/barrier", params=query, files=form, data={"ion": "Li"})
    chance = round(100 * asked.json()["good_conductor"]["probability"])
    take_example(page, "LiFePO₄")
    page.get_by_label("Good below").fill(str(threshold_ev))
    expect(page.locator("#verdict")).to_contain_text(f"{chance} % chance of a barrier below {threshold_ev} eV")


def test_the_table_sorts_by_what_its_heads_name(page: Page) -> None:
    take_example(page, "Li₇La₃Zr₂O₁₂")

    def barriers() -> list[float]:
        return [float(text) for text in page.locator("#hops td.strong").all_text_contents()]

    head = page.get_by_role("button", name="Barrier, eV")
    head.click()
    assert barriers() == sorted(barriers())
    head.click()
    assert barriers() == sorted(barriers(), reverse=True)
    expect(page.get_by_role("columnheader", name="Barrier, eV")).to_have_attribute("aria-sort", "descending")


def test_the_picture_turns_zooms_and_looks_along_an_axis(olivine: Page) -> None:
    first = picture(olivine)
    olivine.get_by_role("button", name="Look along b").click()
    assert not look_alike(picture(olivine), first)
    olivine.get_by_role("button", name="Reset the view").click()
    assert look_alike(picture(olivine), first)
    olivine.get_by_role("application").focus()
    for key in ("ArrowLeft", "ArrowUp", "+"):
        before = picture(olivine)
        olivine.keyboard.press(key)
        assert not look_alike(picture(olivine), before)
    olivine.get_by_role("button", name="Reset the view").click()
    olivine.get_by_role("checkbox", name="host").uncheck()
    assert not look_alike(picture(olivine), first)


def test_warnings_are_words(page: Page) -> None:
    take_example(page, "MgMn₂O₄")
    notes = page.get_by_role("region", name="Notes")
    expect(notes).to_contain_text("its other Mg ions stay and one is missing")
    expect(notes.locator("code")).to_have_text("mechanism=dilute")


@pytest.mark.parametrize(
    ("button", "ending"),
    [
        ("Table (CSV)", ".csv"),
        ("NEB folders", ".zip"),
        ("NEB frames", ".neb.json"),
        ("Everything", ".json"),
        ("Picture", ".png"),
    ],
)
def test_what_is_shown_can_be_taken_along(olivine: Page, tmp_path: Path, button: str, ending: str) -> None:
    with olivine.expect_download() as taken:
        olivine.get_by_role("button", name=button).click()
    assert taken.value.suggested_filename.endswith(ending)
    path = tmp_path / "taken"
    taken.value.save_as(path)
    content = path.read_bytes()
    if ending == ".csv":
        assert len(list(csv.DictReader(io.StringIO(content.decode())))) == 2
    elif ending == ".zip":
        assert "hop-01/00/POSCAR" in zipfile.ZipFile(path).namelist()
    elif ending == ".png":
        assert content.startswith(b"\x89PNG")
    else:
        assert json.loads(content)


def test_the_link_is_copied(new_page: NewPage) -> None:
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    page.goto("/")
    take_example(page, "LiCoO₂")
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Link copied")).to_be_visible()
    assert page.evaluate("() => navigator.clipboard.readText()") == page.url


def test_results_one_after_the_other_share_one_viewer(page: Page) -> None:
    for formula in ("LiFePO₄", "Na₃PS₄", "MgMn₂O₄", "LiCoO₂"):
        take_example(page, formula)
        expect(page.locator("#view canvas").first).to_be_visible()
    expect(page.locator(".canvas")).to_have_count(1)


def test_without_webgl_everything_but_the_picture_is_there(service: Service, playwright: Playwright) -> None:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, "--disable-3d-apis"])
    watch = Watch(service.url)
    page = browser.new_page(base_url=service.url)
    watch.follow(page)
    page.goto("/")
    page.locator("ul.examples").get_by_role("button", name="LiFePO₄").click()
    expect(page.locator("#view")).to_contain_text("This browser shows no 3D graphics")
    expect(page.locator("#hops tbody tr")).to_have_count(2)
    page.get_by_role("button", name="Hop 2: show its path").click()
    expect(page.locator("#chart .hop.picked .number")).to_have_text("2")
    browser.close()
    assert watch.faults == []


class TestWithoutInputs:
    @pytest.fixture
    def service(self, tmp_path: Path, store: Path) -> Iterator[Service]:
        with running_service(tmp_path, model_store=store, store_inputs=0) as service:
            yield service

    def test_a_service_that_keeps_no_inputs_has_no_crystal_to_draw(self, page: Page) -> None:
        page.locator("ul.examples").get_by_role("button", name="LiCoO₂").click()
        expect(page.locator("#view")).to_contain_text("The service keeps no inputs")
        expect(page.locator("#hops tbody tr")).to_have_count(3)
