"""What the service promises of bands: formats, identity, invariance, company, and crystals.

On crystals of published structure that the tests compose, and on the data set where it is near.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import pytest
from api_server import Service, running_service
from band_files import band_to_cif_end_points, band_to_poscar_zip
from bands import CHANGES, band_of, with_images
from put_back import own_hop, perfect_crystal
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from app.crystals.band import Band
from app.crystals.hops.options import HopOptions
from app.crystals.hops.search import find_hops
from app.crystals.limits import Limits
from app.crystals.readers import File, read_crystal
from app.crystals.writers import band_to_extxyz, band_to_json

FORMATS_EV = 5e-3  # CIF and POSCAR round, and pymatgen's CIF reader moves coordinates by up to 8e-4 angstrom
EXACT_EV = 1e-4
PUT_BACK_EV = 0.05


@pytest.fixture(scope="module")
def uncached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("uncached"), cache="off", max_hops=2000, model_process=1) as service:
        yield service


SOURCES = ["composed", pytest.param("data set", marks=pytest.mark.needs_data)]


@pytest.fixture(scope="module", params=SOURCES)
def rows(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Ten bands of composed crystals, or twenty of the data set.

    The twenty are two of MgFe2O4, two each of hexagonal, triclinic and cubic cells, and a seeded sample.
    """
    if request.param == "composed":
        return cast("list[dict[str, Any]]", request.getfixturevalue("composed_rows"))[:10]
    data_rows: list[dict[str, Any]] = request.getfixturevalue("data_rows")
    chosen = [row for row in data_rows if row["id"].startswith("MgFe2O4")][:2]
    for system in ("Hexagonal", "Triclinic", "Cubic"):
        chosen += [row for row in data_rows if row["crystal_system"] == system and row not in chosen][:2]
    rest = [row for row in data_rows if row["sound"] and row not in chosen]
    order = np.random.default_rng(11).permutation(len(rest))
    assert {"Hexagonal", "Triclinic"} <= {row["crystal_system"] for row in chosen}
    return chosen + [rest[number] for number in order[: 20 - len(chosen)]]


def post_json(service: Service, band: Band) -> dict[str, Any]:
    body = orjson.dumps(band_to_json(band))
    headers = {"content-type": "application/json"}
    return checked(service.client.post("/predict/barrier", content=body, headers=headers))


def post_files(service: Service, files: dict[str, tuple[str, bytes]], **form: str) -> dict[str, Any]:
    return checked(service.client.post("/predict/barrier", files=files, data=form))


def checked(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def as_extxyz(service: Service, band: Band) -> dict[str, Any]:
    return post_files(service, {"band": ("band.extxyz", band_to_extxyz(band).encode())})


def as_zip(service: Service, band: Band) -> dict[str, Any]:
    return post_files(service, {"band": ("neb.zip", band_to_poscar_zip(band))})


def as_cif_end_points(service: Service, band: Band) -> dict[str, Any]:
    first, last = (content.encode() for content in band_to_cif_end_points(band))
    form = {"ion": band.ion}
    # Two end points alone say nothing of the way round: the offset between the cells that hold them does.
    steps = np.floor(band.image_frac_coords[-1] + 1e-6) - np.floor(band.image_frac_coords[0] + 1e-6)
    form["offset"] = " ".join(str(int(step)) for step in steps)
    return post_files(service, {"initial": ("initial.cif", first), "final": ("final.cif", last)}, **form)


FORMATS = {"extxyz": as_extxyz, "zip": as_zip, "cif": as_cif_end_points}


def test_a_band_in_four_formats_has_one_barrier(uncached: Service, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        band = band_of(row)
        expected = post_json(uncached, band)
        assert not expected["cached"]
        for name, send in FORMATS.items():
            answer = send(uncached, band)
            assert answer["barrier_ev"] == pytest.approx(expected["barrier_ev"], abs=FORMATS_EV), (row["id"], name)
            assert not answer["cached"]


def test_with_the_cache_on_every_other_format_is_a_hit(service: Service, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        band = band_of(row)
        first = post_json(service, band)
        for name, send in FORMATS.items():
            answer = send(service, band)
            assert answer["cached"], (row["id"], name)
            assert answer["barrier_ev"] == first["barrier_ev"]
            assert answer["prediction_id"] != first["prediction_id"]


@pytest.mark.parametrize("change", [*CHANGES, "three images", "nine images"])
def test_what_is_no_change_of_the_hop_changes_no_answer(
    uncached: Service, rows: list[dict[str, Any]], change: str
) -> None:
    generator = np.random.default_rng(5)
    for row in rows:
        band = band_of(row)
        if change in CHANGES:
            changed = CHANGES[change](band, generator)
        else:
            changed = with_images(band, {"three images": 3, "nine images": 9}[change])
        expected, answer = post_json(uncached, band), post_json(uncached, changed)
        assert answer["barrier_ev"] == pytest.approx(expected["barrier_ev"], abs=EXACT_EV), row["id"]


@pytest.mark.parametrize("source", SOURCES)
def test_sixty_four_at_once_answer_what_one_by_one_answers(
    uncached: Service, source: str, request: pytest.FixtureRequest
) -> None:
    rows = request.getfixturevalue({"composed": "composed_rows", "data set": "data_rows"}[source])
    bands = [band_of(row) for row in rows if row["sound"]][:64]
    alone = [post_json(uncached, band)["barrier_ev"] for band in bands]
    with ThreadPoolExecutor(64) as callers:
        together = [answer["barrier_ev"] for answer in callers.map(lambda band: post_json(uncached, band), bands)]
    assert together == pytest.approx(alone, abs=EXACT_EV)


def test_a_host_with_its_ion_put_back_lists_the_row_s_own_hop(
    uncached: Service, data_rows: list[dict[str, Any]]
) -> None:
    sound = [row for row in data_rows if row["sound"] and len(row["host_species"]) < 160]
    chosen = np.random.default_rng(17).permutation(len(sound))[:20]
    for row in (sound[number] for number in chosen):
        band = band_of(row)
        cif = cif_of(band)
        longest = max(5.0, round(band.hop_distance_angstrom + 0.1, 2))
        answer = checked(
            uncached.client.post(
                "/predict/barrier",
                params={"max_hop_angstrom": longest, "max_hops": 2000, "include_close_hops": True},
                files={"structure": ("crystal.cif", cif)},
                data={"ion": band.ion},
            )
        )
        crystal = read_crystal(File(name="crystal.cif", content=cif), Limits())
        options = HopOptions(max_hop_angstrom=longest, max_hops=2000, include_close_hops=True)
        search = find_hops(crystal, band.ion, options, max_atoms=5000)
        own = own_hop(band, search)
        assert own is not None, row["id"]
        (hop,) = [
            hop
            for hop in answer["hops"]
            if (hop["from_site"], hop["to_site"], tuple(hop["offset"])) == (own.from_site, own.to_site, own.offset)
        ]
        posted = post_json(uncached, band)
        assert hop["barrier_ev"] == pytest.approx(posted["barrier_ev"], abs=PUT_BACK_EV), row["id"]


def cif_of(band: Band) -> bytes:
    crystal = perfect_crystal(band)
    structure = Structure(
        Lattice(crystal.lattice_angstrom),
        [site.species[0][0] for site in crystal.sites],
        [site.frac_coords for site in crystal.sites],
    )
    return str(CifWriter(structure)).encode()


def test_an_example_of_each_kind_is_answered(service: Service, repository: Path) -> None:
    for path in sorted((repository / "examples").glob("*.cif")):
        if path.stem.endswith(("initial", "final")):
            continue
        ion = next(ion for ion in ("Li", "Na", "Mg") if ion in path.stem)
        answer = post_files(service, {"structure": (path.name, path.read_bytes())}, ion=ion)
        assert answer["hops"], path.name
        assert answer["percolation_ev"]["1d"] is not None, path.name
