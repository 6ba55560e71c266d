"""Every format is dropped on the page and gives a result, as a band or a crystal, also where its name says neither.

One in three of them is in `make test`, all are in `make nightly`; every one is read in each run of
tests/unit/crystals/readers/test_formats.py.
"""

import base64
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from api_server import Service
from browser_pages import ARGUMENTS, CHROMIUM, WAIT_MS, Watch
from playwright.sync_api import Browser, Page, Playwright, expect
from written_formats import (
    BACK_EV,
    BANDS,
    BANDS_WITHOUT_CELL,
    CRYSTALS,
    FORWARD_EV,
    ION,
    cell_of,
    structures,
)

Name = tuple[str, str]
Names = Iterable[Name]

#: What a file of each format is called.
CRYSTAL_NAMES = {
    "CIF": "a.cif",
    "POSCAR of VASP 4": "POSCAR",
    "POSCAR with a bracket": "a.vasp",
    "POSCAR in gzip": "POSCAR.gz",
    "POSCAR in xz": "CONTCAR.xz",
    "CHGCAR": "CHGCAR",
    "XDATCAR": "XDATCAR",
    "vasprun.xml": "vasprun.xml",
    "OUTCAR": "OUTCAR",
    "extended XYZ": "a.extxyz",
    "ASE trajectory": "a.traj",
    "ASE database": "a.db",
    "XSF": "a.xsf",
    "ASE JSON": "a.json",
    "pymatgen JSON": "b.json",
    "entry": "entry.json",
    "list of one": "list.json",
    "OPTIMADE": "optimade.json",
    "MigrationGraph": "graph.json",
    "zip of a CIF": "paper.zip",
    "zip of a run": "run.zip",
}
BAND_NAMES = {
    "extended XYZ by ASE": "band.extxyz",
    "extended XYZ in gzip": "band.xyz.gz",
    "JSON": "band.json",
    "neb-json": "neb.json",
    "ASE trajectory": "band.traj",
    "ASE database": "band.db",
    "AXSF by Quantum ESPRESSO": "band.axsf",
    "XDATCAR": "XDATCAR",
    "list of structures": "list.json",
    "OPTIMADE": "optimade.json",
    "zip of VTST": "vtst.zip",
    "zip of OUTCARs": "outcars.zip",
    "zip of neb.x": "nebx.zip",
    "zip of initial and final": "ends.zip",
    "tar.xz": "run.tar.xz",
}
CELL_NAMES = {"plain XYZ": "plain.xyz", "zip of CP2K": "cp2k.zip", "zip of crd and path": "nebx.zip"}
DROP = """([name, content]) => {
    const bytes = Uint8Array.from(atob(content), (sign) => sign.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], name));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def flat_browser(playwright: Playwright) -> Iterator[Browser]:
    """A browser that draws no crystals: with graphics by software each would take a second."""
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, "--disable-3d-apis"])
    yield browser
    browser.close()


@pytest.fixture
def page(service: Service, flat_browser: Browser) -> Iterator[Page]:
    watch = Watch(service.url)
    page = flat_browser.new_page(base_url=service.url)
    page.set_default_timeout(WAIT_MS)
    watch.follow(page)
    page.goto("/")
    yield page
    page.close()
    # a file that is taken for a crystal is refused once as a band, and the reverse
    assert [fault for fault in watch.faults if "400 (Bad Request)" not in fault] == []


def drop(page: Page, name: str, content: bytes, ion: str = "") -> None:
    """Drop a file and wait for its result, which has a link of its own."""
    before = page.evaluate("() => location.hash")
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])
    expect(page.locator("#chosen")).to_have_text(name)
    page.get_by_label("Ion that moves").fill(ion)
    page.get_by_role("button", name="Predict").click()
    page.wait_for_function("(before) => location.hash !== before", arg=before)
    expect(page.locator("#barrier"), name).to_contain_text("eV")


def test_every_crystal_gives_its_hops(page: Page, tmp_path: Path, a_third: Callable[[Names], list[Name]]) -> None:
    shown = set()
    for form, name in a_third(CRYSTAL_NAMES.items()):
        drop(page, name, CRYSTALS[form](tmp_path), ION)
        assert page.locator("#hops tbody tr").count() > 1, form
        shown.add((page.locator("#barrier").text_content() or "")[:4])
    assert len(shown) == 1


def test_every_band_gives_its_barrier_and_a_finished_one_shows_its_own(
    page: Page, tmp_path: Path, a_third: Callable[[Names], list[Name]]
) -> None:
    shown = set()
    for form, name in a_third(BAND_NAMES.items()):
        drop(page, name, BANDS[form](tmp_path))
        assert page.locator("#hops").count() == 0, form
        shown.add((page.locator("#barrier").text_content() or "")[:4])
        own = page.locator("#uploaded-band")
        if form in {"zip of VTST", "zip of neb.x", "ASE database"}:
            expect(own).to_contain_text(f"{FORWARD_EV:.3f} eV forward and {BACK_EV:.3f} eV back")
    assert len(shown) == 1


def test_a_file_without_a_cell_is_read_with_the_one_that_is_entered(page: Page, tmp_path: Path) -> None:
    page.get_by_text("Options").click()
    page.get_by_label("Cell, Å").fill(",".join(f"{x:.10f}" for row in cell_of(structures()[0]) for x in row))
    for form, name in CELL_NAMES.items():
        drop(page, name, BANDS_WITHOUT_CELL[form](tmp_path))


def test_a_top_that_is_no_figure_is_said_in_words(page: Page) -> None:
    script = """async () => {
        const { top } = await import("/static/page/dom.js");
        const { probabilityBelow } = await import("/static/page/judge.js");
        const predicted = { quantiles_ev: { 0.1: 0.2, 0.5: 0.6, 0.9: null } };
        return [top(null), top(0.5), probabilityBelow(predicted, 0.4), probabilityBelow(predicted, 9)];
    }"""
    words, figure, chance, beyond = page.evaluate(script)
    assert (words, figure) == ("unbounded (above 15)", "0.50")
    assert (chance, beyond) == (pytest.approx(0.3), 0.5)
