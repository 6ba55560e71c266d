"""What the service says of crystals: known physics, disorder, empty hosts, bounds, and a second opinion."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from api_server import Service, running_service
from bands import band_of
from made_crystals import garnet, layered_oxide, repeated, spinel
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from app.crystals.crystal import Crystal
from app.crystals.hops.bands import PlacedHop, hop_band
from app.crystals.hops.search import find_hops
from app.crystals.limits import Limits
from app.crystals.readers import File, read_crystal
from app.crystals.sites.ion_sites import split
from app.crystals.sites.supercell import choose_supercell
from app.crystals.writers import band_to_json

EQUAL_EV = 1e-3
SUPERCELL_EV = 0.03
MADE = (("spinel", "Mg"), ("layered", "Li"))
SHIPPED = (("LiFePO4", "Li"), ("LiCoO2", "Li"), ("Li7La3Zr2O12", "Li"), ("Na3PS4", "Na"), ("MgMn2O4", "Mg"))


def known(repository: Path, name: str) -> Crystal:
    """A made crystal, or one of the five that are shipped."""
    path = repository / "examples" / f"{name}.cif"
    made = {"spinel": spinel(), "layered": layered_oxide()}
    return made.get(name) or read_crystal(File(name=path.name, content=path.read_bytes()), Limits())


@pytest.fixture(scope="module")
def uncached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("crystals"), cache="off", max_hops=12, max_hops_later=40) as service:
        yield service


def cif_of(crystal: Crystal) -> bytes:
    structure = Structure(
        Lattice(crystal.lattice_angstrom),
        [dict(site.species) for site in crystal.sites],
        [site.frac_coords for site in crystal.sites],
    )
    return str(CifWriter(structure)).encode()


def send(service: Service, crystal: Crystal | bytes, ion: str = "Li", **query: Any) -> Any:
    content = crystal if isinstance(crystal, bytes) else cif_of(crystal)
    return service.client.post(
        "/predict/barrier", params=query, files={"structure": ("crystal.cif", content)}, data={"ion": ion}
    )


def answered(service: Service, crystal: Crystal | bytes, ion: str = "Li", **query: Any) -> dict[str, Any]:
    response = send(service, crystal, ion, **query)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def without(crystal: Crystal, element: str) -> Crystal:
    return replace(crystal, sites=tuple(site for site in crystal.sites if not site.occupancy_of(element)))


def shared(crystal: Crystal, element: str, contents: Mapping[str, float]) -> Crystal:
    sites = [
        replace(site, species=tuple(contents.items())) if site.occupancy_of(element) else site for site in crystal.sites
    ]
    return replace(crystal, sites=tuple(sites))


# --- known physics ------------------------------------------------------------------------------------------------


def test_olivine_conducts_along_b_and_nowhere_else_as_easily(uncached: Service, repository: Path) -> None:
    answer = answered(uncached, (repository / "examples" / "LiFePO4.cif").read_bytes())
    path = answer["percolation"]["1d"]
    assert path["directions"] == [[0, 1, 0]]
    assert answer["hops"][path["bottleneck_hops"][0]]["distance_angstrom"] == pytest.approx(3.0, abs=0.05)
    for wider in ("2d", "3d"):
        barrier_ev = answer["percolation_ev"][wider]
        assert barrier_ev is None or barrier_ev > path["barrier_ev"] + 0.3


def test_a_layered_oxide_conducts_in_its_layer(uncached: Service, repository: Path) -> None:
    answer = answered(uncached, (repository / "examples" / "LiCoO2.cif").read_bytes())
    barriers = answer["percolation_ev"]
    assert barriers["1d"] == pytest.approx(barriers["2d"], abs=EQUAL_EV)
    assert barriers["3d"] is None or barriers["3d"] > barriers["2d"] + 0.1
    assert answer["percolation"]["2d"]["directions"] == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(("crystal", "ion"), [(spinel(), "Mg"), (garnet(), "Li")], ids=["spinel", "garnet"])
def test_a_cubic_crystal_conducts_alike_in_every_direction(uncached: Service, crystal: Crystal, ion: str) -> None:
    answer = answered(uncached, crystal, ion)
    barriers = answer["percolation_ev"]
    assert barriers["1d"] is not None
    assert barriers["2d"] == pytest.approx(barriers["1d"], abs=EQUAL_EV)
    assert barriers["3d"] == pytest.approx(barriers["1d"], abs=EQUAL_EV)
    assert answer["percolation"]["1d"]["directions"] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_the_lowest_barrier_is_the_crystal_s_and_its_interval_holds_it(uncached: Service) -> None:
    answer = answered(uncached, spinel(), "Mg")
    path = answer["percolation"]["1d"]
    assert answer["barrier_ev"] == path["barrier_ev"] == answer["percolation_ev"]["1d"]
    assert answer["interval_ev"] == path["interval_ev"]
    assert path["interval_ev"]["low"] <= path["barrier_ev"] <= path["interval_ev"]["high"]
    assert {answer["hops"][index]["barrier_ev"] for index in path["bottleneck_hops"]} == {path["barrier_ev"]}


@pytest.mark.parametrize(("name", "ion"), [*MADE, *SHIPPED])
def test_members_of_one_orbit_have_one_barrier(uncached: Service, repository: Path, name: str, ion: str) -> None:
    crystal = known(repository, name)
    found = find_hops(crystal, ion, max_atoms=2000)
    lattices = split(crystal, ion)
    supercell = choose_supercell(lattices, max_atoms=2000)
    generator = np.random.default_rng(3)
    compared = 0
    for orbit, hop in enumerate(found.hops[:3]):
        if hop.band is None:
            continue
        members = [edge for edge in found.all_hops if edge.orbit == orbit]
        chosen = [members[int(k)] for k in generator.permutation(len(members))[:3]]
        barriers = [
            _posted(
                uncached,
                band_to_json(hop_band(lattices, supercell, PlacedHop(edge=edge), mechanism="vacancy", max_atoms=2000)),
            )
            for edge in chosen
        ]
        assert np.ptp(barriers) < EQUAL_EV
        compared += len(barriers) > 1
    assert compared


def _posted(service: Service, band: dict[str, Any]) -> float:
    response = service.client.post(
        "/predict/barrier", content=orjson.dumps(band), headers={"content-type": "application/json"}
    )
    assert response.status_code == 200, response.text
    return float(response.json()["barrier_ev"])


@pytest.mark.parametrize(("name", "ion"), [*MADE, *SHIPPED])
def test_a_doubled_cell_percolates_at_the_same_barriers(
    uncached: Service, repository: Path, name: str, ion: str
) -> None:
    crystal = known(repository, name)
    longest_angstrom = 4.0 if "La3Zr2" in name else 5.0  # a garnet has more hops up to five than are predicted here
    once, twice = (
        answered(uncached, repeated(crystal, times), ion, max_hop_angstrom=longest_angstrom)
        for times in ((1, 1, 1), (2, 1, 1))
    )
    assert not once["truncated"]
    assert not twice["truncated"]
    assert once["percolation_ev"]["1d"] is not None
    for dimension, barrier_ev in once["percolation_ev"].items():
        if barrier_ev is None:
            assert twice["percolation_ev"][dimension] is None
        else:
            assert twice["percolation_ev"][dimension] == pytest.approx(barrier_ev, abs=SUPERCELL_EV)


# --- bounds -------------------------------------------------------------------------------------------------------


def test_a_close_hop_percolates_only_when_asked_for(uncached: Service) -> None:
    plain, asked = (answered(uncached, layered_oxide(), include_close_hops=asked) for asked in (False, True))
    assert "nearer than 1.2" in plain["hops"][2]["excluded_because"]
    assert plain["percolation_ev"]["3d"] is None
    assert not plain["percolation_upper_bound"]
    assert asked["hops"][2]["excluded_because"] is None
    assert asked["percolation_ev"]["3d"] is not None


def test_more_hops_than_fit_make_an_upper_bound_and_a_job_takes_more(uncached: Service) -> None:
    query: dict[str, Any] = {"max_hops": 1, "max_hop_angstrom": 6.0}
    cut = answered(uncached, layered_oxide(), include_close_hops=True, **query)
    assert cut["truncated"]
    assert cut["percolation_upper_bound"]
    assert any("Prefer: respond-async" in warning and "max_hops=" in warning for warning in cut["warnings"])
    refused = send(uncached, layered_oxide(), max_hops=20).json()
    assert refused["kind"] == "too-many-hops"
    assert refused["expected"] == "at most 12; 40 with `Prefer: respond-async`"
    accepted = uncached.client.post(
        "/predict/barrier",
        params={"max_hops": 20},
        files={"structure": ("crystal.cif", cif_of(layered_oxide()))},
        data={"ion": "Li"},
        headers={"prefer": "respond-async"},
    )
    assert accepted.status_code == 202
    done = uncached.wait_for(accepted.headers["location"], lambda body: body["status"] == "done")
    assert not done["truncated"]
    too_many = uncached.client.post(
        "/predict/barrier",
        params={"max_hops": 41},
        files={"structure": ("crystal.cif", cif_of(layered_oxide()))},
        data={"ion": "Li"},
        headers={"prefer": "respond-async"},
    )
    assert too_many.status_code == 422
    assert "IONPATH_MAX_HOPS_LATER" in too_many.json()["detail"]


# --- disorder and empty hosts -------------------------------------------------------------------------------------


def test_a_disordered_crystal_has_the_mean_over_its_orderings(uncached: Service) -> None:
    answer = answered(uncached, shared(layered_oxide(), "Co", {"Al": 0.5, "Ga": 0.5}))
    disorder = answer["disorder"]
    assert disorder["method"] == "samples"
    assert len(disorder["orderings"]) == 3
    for ordering in disorder["orderings"]:
        assert set(ordering["species"]) == {"Al", "Ga"}
        assert len(ordering["frac_coords"]) == len(ordering["species"])
    first = answer["hops"][0]
    assert len(first["ordering_barriers_ev"]) == 3
    assert first["barrier_ev"] == pytest.approx(np.mean(first["ordering_barriers_ev"]))
    figures = [ordering["percolation_ev"]["1d"] for ordering in disorder["orderings"]]
    assert disorder["mean_percolation_ev"]["1d"] == pytest.approx(np.mean(figures))
    assert disorder["spread_percolation_ev"]["1d"] == pytest.approx(np.std(figures))
    stored = uncached.client.get(f"/predictions/{answer['prediction_id']}").json()
    assert stored["input"]["max_orderings"] == 3
    assert stored["disorder"] == disorder


def test_an_ion_that_is_not_in_the_file_hops_between_interstitial_sites(uncached: Service) -> None:
    answer = answered(uncached, without(spinel(), "Mg"), "Mg")
    assert answer["mechanism"] == "dilute"
    assert {site["occupancy"] for site in answer["sites"]} == {0.0}
    assert answer["percolation_ev"]["3d"] is not None
    assert any("no Mg in the uploaded crystal" in warning for warning in answer["warnings"])


def test_an_ion_without_a_site_is_refused(uncached: Service) -> None:
    response = send(uncached, layered_oxide(), "Rb")
    assert response.status_code == 422
    assert response.json()["kind"] == "no-site"


# --- second opinion -----------------------------------------------------------------------------------------------


def test_a_second_opinion_stands_beside_the_model_s(uncached: Service) -> None:
    answer = answered(uncached, spinel(), "Mg", second_opinion="bvse")
    opinion = answer["second_opinion"]
    assert opinion["method"] == "bvse"
    assert opinion["answered"]
    assert opinion["percolation_ev"].keys() == {"1d", "2d", "3d"}
    is_warned = any("disagree by more than 0.5 eV" in warning for warning in answer["warnings"])
    apart = [
        (ours is None) != (theirs is None) or (ours is not None and abs(ours - theirs) > 0.5)
        for ours, theirs in zip(answer["percolation_ev"].values(), opinion["percolation_ev"].values(), strict=True)
    ]
    assert is_warned == any(apart)
    assert "second_opinion" not in answered(uncached, spinel(), "Mg")


def test_a_second_opinion_that_fails_leaves_the_answer(tmp_path: Path, store: Path) -> None:
    with running_service(tmp_path, model_store=store, second_opinion_timeout_s=0.01) as service:
        answer = answered(service, spinel(), "Mg", second_opinion="bvse")
        assert answer["barrier_ev"] is not None
        assert not answer["second_opinion"]["answered"]
        assert answer["second_opinion"]["percolation_ev"] == {"1d": None, "2d": None, "3d": None}
        assert "IONPATH_SECOND_OPINION_TIMEOUT_S" in answer["second_opinion"]["detail"]
        assert any("There is no second opinion" in warning for warning in answer["warnings"])
        answered(service, spinel(), "Mg")  # the killed process was replaced


def test_a_band_has_no_second_opinion(uncached: Service, composed_rows: list[dict[str, Any]]) -> None:
    response = uncached.client.post(
        "/predict/barrier",
        params={"second_opinion": "bvse"},
        content=orjson.dumps(band_to_json(band_of(composed_rows[0]))),
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 422
    assert response.json()["kind"] == "second-opinion-needs-crystal"
    unknown = send(uncached, spinel(), "Mg", second_opinion="dft")
    assert unknown.status_code == 422


# --- experimental crystals ----------------------------------------------------------------------------------------


def test_experimental_crystals_are_answered_or_refused(uncached: Service, cif_dir: Path) -> None:
    """Ordered, mixed host, ion on shared sites, split host atoms, and one that cannot be ordered."""
    for name, status in (("p81", 200), ("qer", 200), ("lud", 200), ("l2w", 200), ("ysm", 422)):
        response = send(uncached, (cif_dir / f"{name}.cif").read_bytes())
        assert response.status_code == status, (name, response.text)
    assert "O 0.5 at (" in response.json()["detail"]


def test_barriers_of_more_dimensions_are_not_lower(uncached: Service, cif_dir: Path) -> None:
    answer = answered(uncached, (cif_dir / "qer.cif").read_bytes())
    barriers = [value for value in answer["percolation_ev"].values() if value is not None]
    assert all(lower <= higher for lower, higher in pairwise(barriers))


def test_a_slab_and_a_band_in_it_are_out_of_the_domain(uncached: Service) -> None:
    bulk = repeated(layered_oxide(), (1, 1, 2))
    longer = 1.0 + 15.0 / bulk.lattice_angstrom[2, 2]
    slab = Crystal(
        lattice_angstrom=bulk.lattice_angstrom * np.array([[1.0], [1.0], [longer]]),
        sites=tuple(
            replace(site, frac_coords=(site.frac_coords[0], site.frac_coords[1], site.frac_coords[2] / longer))
            for site in bulk.sites
        ),
    )
    answer = send(uncached, slab).json()
    assert any("is not a bulk crystal" in warning and "a slab in vacuum" in warning for warning in answer["warnings"])
    assert answer["in_domain"]["verdict"] is False
    assert any("at the surface of a slab" in str(hop["excluded_because"]) for hop in answer["hops"])
    band = next(hop.band for hop in find_hops(slab, "Li", max_atoms=2000).hops if hop.band is not None)
    answered = uncached.client.post("/predict/barrier", json=band_to_json(band)).json()
    assert answered["in_domain"]["verdict"] is False
    assert any("slab with a gap of" in reason for reason in answered["in_domain"]["reasons"])
    assert any("The band is not in a bulk crystal" in warning for warning in answered["warnings"])
