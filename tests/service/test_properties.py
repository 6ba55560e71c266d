"""Bulk properties of a crystal, asked for over HTTP and on the command line."""

import csv
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from api_server import Service, ionpath, running_service
from made_crystals import layered_oxide, repeated, rock_salt
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar
from untrained import write_untrained, write_untrained_properties

from app.api.keys import new_key
from app.api.property_schemas import BulkProperties
from app.api.schemas import Problem
from app.crystals.crystal import Crystal

PATH = "/predict/properties"
#: float32 sums in another order.
SAME = 1e-5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("store")
    write_untrained(store)
    write_untrained_properties(store)
    return store


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Service]:
    patient = {"queue_wait_s": 30}  # on a busy machine callers are refused sooner, which is not what is tested here
    with running_service(tmp_path_factory.mktemp("properties"), model_store=store, max_atoms=200, **patient) as service:
        yield service


def structure_of(crystal: Crystal) -> Structure:
    species = [site.species[0][0] for site in crystal.sites]
    return Structure(Lattice(crystal.lattice_angstrom), species, [site.frac_coords for site in crystal.sites])


def as_json(structure: Structure) -> tuple[str, bytes]:
    return "crystal.json", json.dumps(structure.as_dict()).encode()


def post(service: Service, file: tuple[str, bytes], **query: str) -> httpx.Response:
    return service.client.post(PATH, files={"structure": file}, params=query)


def values(response: httpx.Response) -> list[float]:
    assert response.status_code == 200, response.text
    return [one["value"] for one in response.json()["properties"]]


def problem_of(response: httpx.Response) -> Problem:
    assert response.headers["content-type"] == "application/problem+json", response.text
    return Problem.model_validate_json(response.content, strict=True, extra="forbid")


def test_a_crystal_is_answered_with_its_properties_in_their_units(service: Service, examples: Path) -> None:
    response = post(service, ("LiFePO4.cif", (examples / "LiFePO4.cif").read_bytes()), model="mpt")
    assert response.status_code == 200, response.text
    BulkProperties.model_validate_json(response.content, strict=True, extra="forbid")
    answer = response.json()
    assert answer["formula"] == "Fe4 Li4 O16 P4"
    energy, dielectric = answer["properties"]
    assert (energy["name"], energy["unit"]) == ("formation_energy_ev_per_atom", "eV/atom")
    assert energy["test_mae"] == {"value": 0.08, "low": 0.07, "high": 0.09, "unit": "eV/atom", "rows": 120}
    assert (dielectric["name"], dielectric["unit"], dielectric["test_mae"]) == ("dielectric_constant", "", None)
    assert answer["unknown_elements"] == answer["warnings"] == []
    card = service.client.get("/models/mpt").json()
    assert answer["model"] == {"name": "mpt", "version": "0", "digest": card["digest"]}
    assert answer["request_id"] == response.headers["x-request-id"]


def test_elements_that_no_fitted_crystal_held_are_named(service: Service) -> None:
    answer = post(service, as_json(structure_of(rock_salt(ion="Na")))).json()
    assert answer["unknown_elements"] == ["Cl", "Na"]
    assert "Cl, Na" in answer["warnings"][0]


def test_one_crystal_has_one_answer_in_every_cell_order_and_file(service: Service) -> None:
    crystal = layered_oxide()
    structure = structure_of(crystal)
    generator = np.random.default_rng(7)
    skewed = Structure(
        Lattice(np.array([[1, 1, 0], [0, 1, 0], [0, -2, 1]]) @ structure.lattice.matrix),
        structure.species,
        structure.cart_coords,
        coords_are_cartesian=True,
    )
    shifted = Structure(structure.lattice, structure.species, (structure.frac_coords + generator.random(3)) % 1.0)
    order = generator.permutation(len(structure))
    written = {
        "cif": ("a.cif", str(CifWriter(structure, significant_figures=10)).encode()),
        "poscar": ("POSCAR", Poscar(structure).get_str(significant_figures=12).encode()),
        "primitive": as_json(structure.get_primitive_structure()),
        "skewed": as_json(skewed),
        "shifted": as_json(shifted),
        "reordered": as_json(Structure.from_sites([structure[int(k)] for k in order])),
        "supercell": as_json(structure_of(repeated(crystal, (2, 1, 1)))),
    }
    expected = values(post(service, as_json(structure)))
    for name, file in written.items():
        assert values(post(service, file)) == pytest.approx(expected, rel=SAME, abs=SAME), name
    other = structure.copy()
    other.scale_lattice(1.3 * structure.volume)
    assert values(post(service, as_json(other))) != pytest.approx(expected, rel=SAME, abs=SAME)


def test_crystals_sent_together_are_answered_as_each_alone(service: Service, examples: Path) -> None:
    files = [as_json(structure_of(crystal)) for crystal in (rock_salt(), layered_oxide())]
    files += [(name, (examples / name).read_bytes()) for name in ("LiFePO4.cif", "LiCoO2.cif")]
    alone = [values(post(service, file)) for file in files]
    with ThreadPoolExecutor(8) as threads:
        together = [values(one) for one in threads.map(lambda file: post(service, file), files * 3)]
    for number, answered in enumerate(together):
        assert answered == pytest.approx(alone[number % len(files)], rel=SAME, abs=SAME)


def test_what_cannot_be_answered_is_reported(service: Service, examples: Path) -> None:
    good = ("LiFePO4.cif", (examples / "LiFePO4.cif").read_bytes())
    mixed = structure_of(rock_salt())
    mixed.replace(0, {"Li": 0.5, "Na": 0.5})
    large = structure_of(repeated(rock_salt(), (3, 3, 3)))
    responses = {
        (422, "mixed-sites"): post(service, as_json(mixed)),
        (413, "too-many-atoms"): post(service, as_json(large)),
        (400, "not-a-crystal"): post(service, ("a.json", b'{"no": "crystal"}')),
        (400, "band-not-crystal"): post(service, ("b.json", (examples / "LiFePO4_band.json").read_bytes())),
        (404, "unknown-model"): post(service, good, model="mpt-9"),
        (422, "model-of-other-call"): post(service, good, model="default"),
        (422, "unknown-parameter"): post(service, good, threshold_ev="0.5"),
        (422, "unknown-field"): service.client.post(PATH, files={"structure": good}, data={"ion": "Li"}),
        (422, "no-file"): service.client.post(PATH, files={"structure": ("", b"")}),
        (415, "unsupported-input"): service.client.post(PATH, json={}),
        (413, "body-too-large"): post(service, ("a.cif", b" " * 25_000_000)),
        (405, "method-not-allowed"): service.client.get(PATH),
    }
    for (status, kind), response in responses.items():
        found = problem_of(response)
        assert (response.status_code, found.kind) == (status, kind), response.text
        assert found.expected
    problem = problem_of(responses[422, "mixed-sites"])
    assert "Li 0.5/Na 0.5 at 0.0000, 0.0000, 0.0000" in problem.detail
    assert "mpt" in str(problem_of(responses[404, "unknown-model"]).expected)
    assert "/predict/barrier" in problem_of(responses[422, "model-of-other-call"]).detail
    band = service.client.post(PATH, files={"band": good})
    assert "structure" in str(problem_of(band).expected)


def test_a_model_of_properties_is_not_asked_for_barriers(service: Service, examples: Path) -> None:
    for call in ("/predict/barrier", "/classify/good-conductor"):
        response = service.client.post(
            f"{call}?model=mpt", json=json.loads((examples / "LiFePO4_band.json").read_bytes())
        )
        found = problem_of(response)
        assert (response.status_code, found.kind) == (422, "model-of-other-call")
        assert PATH in found.detail
        assert "default" in str(found.expected)


def test_nothing_is_logged(service: Service, examples: Path) -> None:
    before = service.client.get("/predictions").json()
    values(post(service, ("LiFePO4.cif", (examples / "LiFePO4.cif").read_bytes())))
    assert service.client.get("/predictions").json() == before


def test_the_call_is_on_the_openapi_page_and_its_example_is_answered(service: Service) -> None:
    call = service.client.get("/openapi.json").json()["paths"][PATH]["post"]
    declared = call["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    assert declared.endswith("/BulkProperties")
    (example,) = call["requestBody"]["content"]["multipart/form-data"]["examples"].values()
    name = example["value"]["structure"][1:]
    values(post(service, (name, service.client.get(f"/static/examples/{name}").content)))


def test_models_of_both_kinds_are_listed(service: Service, store: Path, tmp_path: Path) -> None:
    listed = service.client.get("/models").json()
    assert listed["default"] == "default"
    assert [(card["name"], card.get("kind")) for card in listed["models"]] == [("default", None), ("mpt", "properties")]
    shown = ionpath(tmp_path, "models", "--url", service.url)
    assert shown.returncode == 0, shown.stderr
    assert "0.080 (0.070 to 0.090) eV/atom, formation_energy_ev_per_atom" in shown.stdout
    here = ionpath(tmp_path, "models", "--json", model_store=store)
    assert json.loads(here.stdout) == listed


def test_the_command_line_answers_here_what_the_service_answers(
    tmp_path: Path, service: Service, store: Path, examples: Path
) -> None:
    words: tuple[str | Path, ...] = ("predict", examples / "LiFePO4.cif", examples / "LiCoO2.cif", "--properties")
    here = ionpath(tmp_path, *words, "--json", model_store=store)
    there = ionpath(tmp_path, *words, "--json", "--url", service.url)
    assert (here.returncode, there.returncode) == (0, 0), here.stderr + there.stderr
    for mine, its in zip(here.stdout.splitlines(), there.stdout.splitlines(), strict=True):
        ours, theirs = json.loads(mine), json.loads(its)
        assert (ours["file"], ours["formula"], ours["model"]) == (theirs["file"], theirs["formula"], theirs["model"])
        for one, other in zip(ours["properties"], theirs["properties"], strict=True):
            assert one["value"] == pytest.approx(other["value"], rel=SAME, abs=SAME)


def test_the_command_line_shows_a_table_or_csv_and_tells_what_is_wrong(
    tmp_path: Path, service: Service, examples: Path
) -> None:
    words: tuple[str | Path, ...] = ("predict", "--properties", "--url", service.url)
    table = ionpath(tmp_path, *words, examples / "LiFePO4.cif")
    assert table.returncode == 0, table.stderr
    for word in ("formation_energy_ev_per_atom", "eV/atom", "0.08 (0.07 to 0.09)", "not known", "Fe4 Li4 O16 P4"):
        assert word in table.stdout
    rows = ionpath(tmp_path, *words, examples / "LiFePO4.cif", examples / "README.md", "--csv")
    assert rows.returncode == 1  # the last one is no crystal
    first, _, last = csv.DictReader(io.StringIO(rows.stdout))
    assert (first["property"], first["unit"]) == ("formation_energy_ev_per_atom", "eV/atom")
    assert float(first["value"])
    assert last["problem"]
    mixed = ionpath(tmp_path, *words, examples / "LiFePO4.cif", "--ion", "Li")
    assert mixed.returncode == 2
    assert "--ion" in mixed.stderr
    nothing = ionpath(tmp_path, *words)
    assert (nothing.returncode, "Nothing to predict" in nothing.stderr) == (2, True)
    barrier_model = ionpath(tmp_path, *words, examples / "LiFePO4.cif", "--model", "default")
    assert barrier_model.returncode == 1
    assert "/predict/barrier" in barrier_model.stdout


def test_a_key_is_needed_where_all_calls_need_one_and_a_store_may_hold_no_such_model(
    tmp_path: Path, examples: Path
) -> None:
    write_untrained(tmp_path / "store")
    secret, line = new_key("alice")
    (tmp_path / "keys").write_text(f"{line}\n")
    file: dict[str, Any] = {"structure": ("LiFePO4.cif", (examples / "LiFePO4.cif").read_bytes())}
    with running_service(tmp_path, model_store=tmp_path / "store", api_keys_file=tmp_path / "keys") as guarded:
        assert problem_of(guarded.client.post(PATH, files=file)).kind == "key-missing"
        response = guarded.client.post(PATH, files=file, headers={"X-API-Key": secret})
        found = problem_of(response)
        assert (response.status_code, found.kind) == (404, "unknown-model")
        assert "no model of bulk properties" in found.detail
        assert "IONPATH_MODEL_STORE" in str(found.expected)


def test_an_atom_without_neighbours_is_reported(service: Service) -> None:
    far = "lone\n1.0\n20 0 0\n0 20 0\n0 0 20\nLi\n1\nDirect\n0 0 0\n"
    answer = service.client.post("/predict/properties", files={"structure": ("POSCAR", far)}).json()
    assert any(warning.startswith("1 of the atoms has no other near enough") for warning in answer["warnings"])
