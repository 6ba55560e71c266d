"""Conductivities of crystals, asked for over HTTP and on the command line."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import Service, ionpath, running_service
from conductors import write_small
from pymatgen.core import Lattice, Structure
from untrained import write_untrained

from app.api.log_schemas import StoredPrediction
from app.api.schemas import ClassificationAnswer, ConductivityAnswer, PredictionAnswer, Problem

PATH = "/predict/conductivity"
CLASSIFY = "/classify/good-conductor"
CHANCE = "probability_above_1e-4_s_per_cm"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("store")
    write_untrained(store)
    write_small(store)
    return store


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("conductivity"), model_store=store) as service:
        yield service


@pytest.fixture(scope="module")
def crystal(examples: Path) -> dict[str, tuple[str, bytes]]:
    return {"structure": ("LiFePO4.cif", (examples / "LiFePO4.cif").read_bytes())}


def problem_of(response: httpx.Response) -> Problem:
    assert response.headers["content-type"] == "application/problem+json", response.text
    return Problem.model_validate_json(response.content, strict=True, extra="forbid")


def test_a_crystal_is_answered_with_its_conductivity(service: Service, crystal: Any) -> None:
    response = service.client.post(PATH, files=crystal)
    assert response.status_code == 200, response.text
    ConductivityAnswer.model_validate_json(response.content, strict=True, extra="forbid")
    answer = response.json()
    assert (answer["ion"], answer["formula"], answer["temperature_kelvin"]) == ("Li", "Fe4 Li4 O16 P4", 298.0)
    low, high = answer["interval_log10"]["low"], answer["interval_log10"]["high"]
    assert low < answer["log10_conductivity_s_per_cm"] < high
    chances = [answer["probability_above"][name] for name in ("1e-5", "1e-4", "1e-3")]
    assert chances == sorted(chances, reverse=True)
    assert len(answer["influences"]) == 3
    assert (answer["model"]["name"], answer["barrier_model"]["name"]) == ("conductivity", "default")
    assert any("it may be off by more than its interval says" in one for one in answer["warnings"])  # another default


def test_it_is_cached_and_logged_as_any_answer(service: Service, crystal: Any) -> None:
    first, again = (service.client.post(PATH, files=crystal, data={"ion": "Li"}).json() for _ in range(2))
    assert again["cached"]
    assert again["prediction_id"] != first["prediction_id"]
    assert again["log10_conductivity_s_per_cm"] == first["log10_conductivity_s_per_cm"]
    logged = service.client.get(f"/predictions/{again['prediction_id']}")
    StoredPrediction.model_validate_json(logged.content, strict=True, extra="forbid")
    stored = logged.json()
    nested = stored["conductivity"]
    assert {name: again[name] for name in nested} == nested
    assert stored["hops"]
    table = service.client.get(f"/predictions/{again['prediction_id']}", params={"format": "csv"})
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert float(rows[0]["log10_conductivity_s_per_cm"]) == pytest.approx(
        nested["log10_conductivity_s_per_cm"], abs=6e-3
    )


def test_a_job_ends_with_it_too(service: Service, crystal: Any) -> None:
    accepted = service.client.post(PATH, files=crystal, headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202, accepted.text
    stored = service.wait_for(accepted.headers["location"], lambda body: body["status"] in {"done", "failed"})
    assert stored["conductivity"]["temperature_kelvin"] == 298.0


def test_a_classification_says_how_likely_a_crystal_conducts(service: Service, crystal: Any, examples: Path) -> None:
    response = service.client.post(CLASSIFY, files=crystal, data={"ion": "Li"})
    ClassificationAnswer.model_validate_json(response.content, strict=True, extra="forbid")
    answer = response.json()
    assert answer[CHANCE] == answer["conductivity"]["probability_above"]["1e-4"]
    sodium = {"structure": ("Na3PS4.cif", (examples / "Na3PS4.cif").read_bytes())}
    for body in ({"files": sodium, "data": {"ion": "Na"}}, {"content": (examples / "LiFePO4_band.json").read_bytes()}):
        headers = {"content-type": "application/json"} if "content" in body else {}
        other = service.client.post(CLASSIFY, headers=headers, **body)
        assert other.status_code == 200, other.text
        assert other.json()[CHANCE] is None
        assert "conductivity" not in other.json()
    barrier = service.client.post("/predict/barrier", files=crystal, data={"ion": "Li"})
    PredictionAnswer.model_validate_json(barrier.content, strict=True, extra="forbid")
    assert "conductivity" not in barrier.json()


def test_hops_that_were_not_predicted_leave_its_barrier_unknown(service: Service, crystal: Any) -> None:
    """They are no high barrier: a relaxed cell has hundreds of distinct hops, and the rest may connect."""
    few = service.client.post(PATH, files=crystal, params={"max_hops": 1}).json()
    unknown = "the barrier of a path in three dimensions is not known"
    assert (few["in_domain"]["verdict"], unknown in few["in_domain"]["reasons"]) == (False, True)
    assert any("ask for more with `max_hops`" in reason for reason in few["in_domain"]["reasons"])
    assert not any("0.8 eV or more" in influence["text"] for influence in few["influences"])
    many = service.client.post(PATH, files=crystal, params={"max_hops": 8}).json()
    assert unknown not in many["in_domain"]["reasons"]


def test_a_crystal_without_lithium_conducts_none(service: Service, examples: Path) -> None:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    sodium = {"structure": ("NaCl.cif", salt.to(fmt="cif").encode())}
    refused = problem_of(service.client.post(PATH, files=sodium))
    assert (refused.status, refused.kind) == (422, "ion-absent")
    assert "There is no Li in Cl4 Na4" in refused.detail
    # In this one no interstitial site is found either, which is never looked for.
    phosphate = {"structure": ("Na3PS4.cif", (examples / "Na3PS4.cif").read_bytes())}
    without_a_site = problem_of(service.client.post(PATH, files=phosphate))
    assert (without_a_site.status, without_a_site.kind) == (422, "ion-absent")
    assert "There is no Li in Na6 P2 S8" in without_a_site.detail
    classified = service.client.post(CLASSIFY, files=sodium, data={"ion": "Li"})
    assert (classified.status_code, classified.json()[CHANCE]) == (200, None)
    # That reading is kept, and serves no conductivity either.
    again = problem_of(service.client.post(PATH, files=sodium))
    assert (again.status, again.kind) == (422, "ion-absent")


def test_what_has_no_conductivity_is_refused_in_words(service: Service, crystal: Any, examples: Path) -> None:
    other = problem_of(service.client.post(PATH, files=crystal, data={"ion": "Fe"}))
    assert (other.kind, other.where) == ("ion-without-conductivity", "ion")
    assert "of Li alone" in other.detail
    unknown_ion = problem_of(service.client.post(PATH, files=crystal, data={"ion": "li"}))
    assert (unknown_ion.kind, unknown_ion.where) == ("unknown-element", "ion")
    assert service.client.post(PATH, files=crystal, data={"ion": "Li+"}).json()["ion"] == "Li"
    band = problem_of(
        service.client.post(
            PATH, content=(examples / "LiFePO4_band.json").read_bytes(), headers={"content-type": "application/json"}
        )
    )
    assert band.kind == "conductivity-needs-crystal"
    unknown = problem_of(service.client.post(PATH, files=crystal, params={"mechanism": "dilute"}))
    assert unknown.status == 422
    named = problem_of(service.client.post(PATH, files=crystal, params={"model": "conductivity"}))
    assert named.kind == "model-of-other-call"
    unreadable = problem_of(service.client.post(PATH, files={"structure": ("a.cif", b"data_")}))
    assert unreadable.status in {400, 422}
    assert "Traceback" not in service.log


def test_a_store_without_a_model_of_conductivity_says_so(tmp_path: Path, crystal: Any) -> None:
    write_untrained(tmp_path / "store")
    with running_service(tmp_path, model_store=tmp_path / "store") as service:
        assert problem_of(service.client.post(PATH, files=crystal)).kind == "unknown-model"
        answer = service.client.post(CLASSIFY, files=crystal, data={"ion": "Li"})
        assert (answer.status_code, answer.json()[CHANCE]) == (200, None)


def test_the_command_line_asks_here_and_there(service: Service, store: Path, examples: Path, tmp_path: Path) -> None:
    files = [str(examples / name) for name in ("LiFePO4.cif", "LiCoO2.cif")]
    few = ionpath(tmp_path, "predict", files[0], "--conductivity", "--max-hops", "1", "--json", "--url", service.url)
    assert "in three dimensions is not known" in " ".join(json.loads(few.stdout)["in_domain"]["reasons"])
    here = ionpath(tmp_path, "predict", *files, "--conductivity", "--json", model_store=store)
    there = ionpath(tmp_path, "predict", *files, "--conductivity", "--json", "--url", service.url)
    assert (here.returncode, there.returncode) == (0, 0), here.stderr + there.stderr
    for one, other in zip(here.stdout.splitlines(), there.stdout.splitlines(), strict=True):
        values = [json.loads(line)["log10_conductivity_s_per_cm"] for line in (one, other)]
        assert values[0] == pytest.approx(values[1], abs=1e-4)
    shown = ionpath(tmp_path, "predict", *files, "--conductivity", "--url", service.url)
    for words in ("S/cm", "LiFePO4.cif", "90 % interval", "decades"):
        assert words in shown.stdout
    table = ionpath(tmp_path, "predict", *files, "--conductivity", "--csv", "--url", service.url)
    rows = list(csv.DictReader(io.StringIO(table.stdout)))
    assert [row["file"] for row in rows] == ["LiFePO4.cif", "LiCoO2.cif"]
    refused = ionpath(tmp_path, "predict", files[0], "--conductivity", "--ion", "Fe", "--url", service.url)
    assert (refused.returncode, "of Li alone" in refused.stdout) == (1, True)
    both = ionpath(tmp_path, "predict", files[0], "--conductivity", "--properties")
    assert (both.returncode, "leave one of them out" in both.stderr) == (2, True)
