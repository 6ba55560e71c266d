"""The HTTP contract, on a running service: calls, answers, listing, deleting, answering later."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import pytest
from api_server import Service, running_service
from pydantic import BaseModel
from untrained import write_untrained

from app.api.log_schemas import AcceptedPrediction, PredictionPage, StoredPrediction
from app.api.schemas import ClassificationAnswer, Live, ModelList, PredictionAnswer, Ready
from app.models.cards.card import card_kind
from app.models.cards.conductivity_card import CONDUCTIVITY_KIND
from app.models.cards.property_card import PROPERTIES_KIND

BAND_FIELDS = {
    "barrier_ev",
    "interval_ev",
    "quantiles_ev",
    "good_conductor",
    "in_domain",
    "leans_on",
    "model",
    "other_models",
    "prediction_id",
    "created_at",
    "ion",
    "formula",
    "cached",
    "warnings",
}
CRYSTAL_FIELDS = BAND_FIELDS | {
    "sites",
    "hops",
    "percolation_ev",
    "percolation",
    "ranking_ev",
    "percolation_upper_bound",
    "truncated",
    "mechanism",
    "disorder",
    "bond_valence",
}
HOP_FIELDS = {"from_site", "to_site", "offset", "distance_angstrom", "multiplicity", "excluded_because", "barrier_ev"}
CALLS = ("/predict/barrier", "/classify/good-conductor")
ANSWERS: dict[str, type[BaseModel]] = {CALLS[0]: PredictionAnswer, CALLS[1]: ClassificationAnswer}


def as_declared(response: httpx.Response, schema: type[BaseModel]) -> dict[str, Any]:
    """The body, which is what /openapi.json says: every field that it requires, of its type, and no other."""
    schema.model_validate_json(response.content, strict=True, extra="forbid")
    body: dict[str, Any] = response.json()
    return body


def example(examples: Path, name: str) -> tuple[str, bytes]:
    return name, (examples / name).read_bytes()


def send_band(service: Service, examples: Path, call: str = CALLS[0], **query: Any) -> httpx.Response:
    files = {"band": example(examples, "LiFePO4_band.json")}
    return service.client.post(call, params=query, files=files)


def send_crystal(service: Service, examples: Path, call: str = CALLS[0], **query: Any) -> httpx.Response:
    files = {"structure": example(examples, "LiCoO2.cif")}
    return service.client.post(call, params=query, files=files, data={"ion": "Li"})


def openapi_examples(document: dict[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    for call in CALLS:
        content = document["paths"][call]["post"]["requestBody"]["content"]
        for kind, media in content.items():
            for name, shown in media["examples"].items():
                yield call, kind, name, shown["value"]


def test_every_example_of_the_openapi_page_is_answered(service: Service) -> None:
    document = service.client.get("/openapi.json").json()
    sent = set()
    for call, kind, name, value in openapi_examples(document):
        if kind == "application/json":
            response = service.client.post(call, json=value)
        else:
            files = {
                field: (text[1:], service.client.get(f"/static/examples/{text[1:]}").raise_for_status().content)
                for field, text in value.items()
                if text.startswith("@")
            }
            texts = {field: text for field, text in value.items() if not text.startswith("@")}
            response = service.client.post(call, files=files, data=texts)
        assert response.status_code == 200, (name, response.text)
        assert as_declared(response, ANSWERS[call])["barrier_ev"] > 0
        declared = document["paths"][call]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert declared["$ref"].endswith(f"/{ANSWERS[call].__name__}")
        sent.add((call, name))
    ways = {"json-band", "extended-xyz", "neb-folder", "end-points", "crystal", "layered-crystal"}
    assert sent == {(call, way) for call in CALLS for way in ways}


def test_a_band_is_answered_with_the_fields_of_the_contract(service: Service, examples: Path) -> None:
    answer = send_band(service, examples, threshold_ev=0.4).json()
    assert answer.keys() == BAND_FIELDS
    assert answer["interval_ev"].keys() == {"low", "high", "coverage"}
    assert answer["interval_ev"]["low"] <= answer["barrier_ev"] <= answer["interval_ev"]["high"]
    good = answer["good_conductor"]
    assert good.keys() == {"verdict", "probability", "threshold_ev"}
    assert good["threshold_ev"] == 0.4
    assert good["verdict"] is (answer["barrier_ev"] < 0.4)
    assert answer["in_domain"].keys() == {"verdict", "reasons"}
    assert answer["model"].keys() == {"name", "version", "digest"}
    assert (answer["ion"], answer["formula"]) == ("Li", "Fe16 Li15 O64 P16")
    UUID(answer["prediction_id"])


def test_a_crystal_is_answered_with_its_hops_and_where_they_lead(service: Service, examples: Path) -> None:
    answer = send_crystal(service, examples).json()
    assert answer.keys() == CRYSTAL_FIELDS
    assert answer["percolation_ev"].keys() == {"1d", "2d", "3d"}
    assert answer["hops"]
    for hop in answer["hops"]:
        assert hop.keys() >= HOP_FIELDS
        assert len(hop["offset"]) == 3
    assert answer["hops"][0]["distance_angstrom"] == pytest.approx(2.8161, abs=1e-3)
    assert answer["barrier_ev"] == answer["percolation_ev"]["1d"]
    assert len(answer["sites"]) == 3


def test_each_hop_lists_its_copies_and_no_hop_is_a_copy_of_two(service: Service, examples: Path) -> None:
    hops = send_crystal(service, examples).json()["hops"]
    for hop in hops:
        assert len(hop["copies"]) == hop["multiplicity"]
        assert [hop["from_site"], hop["to_site"], *hop["offset"]] in hop["copies"]
    every = [tuple(copy) for hop in hops for copy in hop["copies"]]
    assert len(every) == len(set(every))


def test_the_quantiles_give_the_probability_at_any_threshold(service: Service, examples: Path) -> None:
    for threshold_ev in (0.1, 0.3, 0.65):
        answer = send_band(service, examples, threshold_ev=threshold_ev).json()
        levels = [float(level) for level in answer["quantiles_ev"]]
        expected = np.interp(threshold_ev, list(answer["quantiles_ev"].values()), levels)
        assert answer["good_conductor"]["probability"] == pytest.approx(expected, abs=2e-3)


def test_classify_puts_the_verdict_first(service: Service, examples: Path) -> None:
    for send in (send_band, send_crystal):
        answer = send(service, examples, CALLS[1], threshold_ev=0.3).json()
        assert list(answer)[:3] == ["verdict", "probability", "threshold_ev"]
        assert {name: answer[name] for name in list(answer)[:3]} == answer["good_conductor"]
        assert answer["threshold_ev"] == 0.3
        assert answer.keys() >= BAND_FIELDS


def test_max_hops_says_that_it_left_some_out(service: Service, examples: Path) -> None:
    answer = send_crystal(service, examples, max_hops=1).json()
    assert answer["truncated"] is True
    assert len([hop for hop in answer["hops"] if hop["barrier_ev"] is not None]) <= 1


def test_a_line_of_the_data_set_can_be_posted_as_it_is(service: Service, data_rows: list[dict[str, Any]]) -> None:
    row = next(row for row in data_rows if row["sound"])
    response = service.client.post("/predict/barrier", json=row)
    assert response.status_code == 200, response.text
    assert response.json()["ion"] == row["ion"]


def test_the_second_format_of_a_band_is_cached_and_answers_the_same(service: Service, examples: Path) -> None:
    first = send_band(service, examples).json()
    ends = {
        "initial": example(examples, "LiFePO4_initial.cif"),
        "final": example(examples, "LiFePO4_final.cif"),
    }
    ways: tuple[dict[str, tuple[str, bytes]], ...] = (
        {"band": example(examples, "LiFePO4_band.extxyz")},
        {"band": example(examples, "LiFePO4_neb.zip")},
        ends,
    )
    for files in ways:
        answer = service.client.post("/predict/barrier", files=files).json()
        assert answer["cached"] is True
        assert answer["barrier_ev"] == pytest.approx(first["barrier_ev"], abs=5e-3)
        assert answer["prediction_id"] != first["prediction_id"]


def test_a_prediction_is_found_at_once_and_until_it_is_deleted(service: Service, examples: Path) -> None:
    answer = send_band(service, examples).json()
    path = f"/predictions/{answer['prediction_id']}"
    stored = as_declared(service.client.get(path), StoredPrediction)
    assert (stored["status"], stored["progress"], stored["kind"]) == ("done", 1.0, "band")
    assert {name: stored[name] for name in answer} == answer
    assert service.client.delete(path).status_code == 204
    assert service.client.get(path).status_code == 404
    assert service.client.delete(path).status_code == 404


def ids_of(page: dict[str, Any]) -> list[str]:
    return [row["prediction_id"] for row in page["predictions"]]


def test_predictions_are_listed_by_filter_and_page(service: Service, examples: Path) -> None:
    ids = {send_band(service, examples).json()["prediction_id"] for _ in range(3)}
    newest = send_crystal(service, examples).json()["prediction_id"]
    service.wait_for("/predictions?kind=crystal&limit=1", lambda page: ids_of(page) == [newest])
    found, cursor, pages = [], "", 0
    while cursor is not None and pages < 100:
        query = {"ion": "Li", "kind": "band", "limit": "2", "model": "default"} | ({"cursor": cursor} if cursor else {})
        page = as_declared(service.client.get("/predictions", params=query), PredictionPage)
        assert len(page["predictions"]) <= 2
        found += ids_of(page)
        cursor, pages = page["next_cursor"], pages + 1
    assert ids <= set(found)
    assert newest not in found
    assert len(found) == len(set(found))
    assert service.client.get("/predictions?ion=Zn").json() == {"predictions": [], "next_cursor": None}
    by_charge = service.client.get("/predictions", params={"ion": "Li+", "kind": "crystal", "limit": 1}).json()
    assert ids_of(by_charge) == [newest]


@pytest.mark.parametrize("moment", ["{:%Y-%m-%d}", "{:%Y-%m-%dT%H:%M:%S}", "{:%Y-%m-%dT%H:%M:%SZ}"])
def test_times_without_a_zone_are_utc(service: Service, examples: Path, moment: str) -> None:
    sent = send_band(service, examples).json()["prediction_id"]
    service.wait_for("/predictions?limit=1", lambda page: ids_of(page) == [sent])
    before, after = (moment.format(datetime.now(UTC) + timedelta(days=days)) for days in (-1, 2))

    def first(**where: str) -> list[str]:
        return ids_of(service.client.get("/predictions", params={"limit": "1", **where}).json())

    assert first(created_after=before, created_before=after) == [sent]
    assert first(created_after=after) == []


@pytest.mark.parametrize("prefer", ["respond-async", "wait=5, Respond-Async; foo"])
def test_respond_async_answers_later_what_is_answered_now(service: Service, examples: Path, prefer: str) -> None:
    now = send_crystal(service, examples).json()
    accepted = service.client.post(
        "/predict/barrier",
        files={"structure": example(examples, "LiCoO2.cif")},
        data={"ion": "Li"},
        headers={"Prefer": prefer},
    )
    assert accepted.status_code == 202
    assert accepted.headers["preference-applied"] == "respond-async"
    path = accepted.headers["location"]
    body = as_declared(accepted, AcceptedPrediction)
    assert path == body["location"] == f"/predictions/{body['prediction_id']}"
    assert service.client.get(path).json()["created_at"] == body["created_at"]
    assert service.client.get(path).json()["status"] in {"queued", "running", "done"}
    stored = service.wait_for(path, lambda body: body["status"] == "done")
    assert stored["progress"] == 1.0
    assert stored["percolation_ev"] == pytest.approx(now["percolation_ev"], abs=1e-4)


def test_models_and_their_cards_are_shown(service: Service) -> None:
    listed = as_declared(service.client.get("/models"), ModelList)
    assert listed["default"] == "default"
    card = service.client.get("/models/default").json()
    assert card in listed["models"]
    assert len(card["digest"]) == 64
    answer = service.client.get("/models/model-9")
    assert answer.status_code == 404
    assert "default" in answer.json()["expected"]


def test_health_asks_every_part(service: Service) -> None:
    assert as_declared(service.client.get("/health/live"), Live) == {"status": "alive"}
    ready = service.client.get("/health/ready")
    as_declared(ready, Ready)
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert {"model", "database", "cache", "log"} <= ready.json()["checks"].keys()
    assert all(check["ok"] for check in ready.json()["checks"].values())


@pytest.mark.parametrize("path", ["/", "/docs", "/health/live", "/health/ready", "/static/page.css"])
def test_head_gives_the_headers_alone(service: Service, path: str) -> None:
    head, whole = service.client.head(path), service.client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]


def curved_band() -> dict[str, Any]:
    """Seven images round a corner, with the host moving a little at each; numbers of many digits."""
    steps = np.linspace(0.0, 1.0, 7)
    images = np.stack([0.1 + 0.25 * steps, 0.1 + 0.03 * np.sin(np.pi * steps), np.full(7, 1 / 3)], axis=1)
    host = np.array([[0.0, 0.5, 0.0], [0.5, 0.0, 0.02], [0.5, 0.5, 0.5], [0.0, 0.0, 0.8], [0.75, 0.75, 0.1]])
    drift = 0.004 * np.sin(np.pi * steps)[:, None, None] * np.random.default_rng(3).normal(size=(1, 5, 3))
    hosts = host + drift
    return {
        "lattice_angstrom": [[8.1, 0.0, 0.0], [0.3, 8.4, 0.0], [0.1, 0.2, 9.0]],
        "host_species": ["O", "O", "O", "Fe", "Fe"],
        "host_frac_coords": hosts[0].tolist(),
        "ion": "Li",
        "image_frac_coords": images.tolist(),
        "relaxed_host_frac_coords": hosts.tolist(),
    }


def as_frames(band: dict[str, Any]) -> bytes:
    lattice = np.array(band["lattice_angstrom"])
    lines = []
    for host, ion in zip(band["relaxed_host_frac_coords"], band["image_frac_coords"], strict=True):
        lines += [str(len(host) + 1), f'Lattice="{" ".join(map(str, lattice.ravel()))}" Properties=species:S:1:pos:R:3']
        places = np.array([*host, ion]) @ lattice
        symbols = [*band["host_species"], band["ion"]]
        lines += [f"{symbol} {x:.12f} {y:.12f} {z:.12f}" for symbol, (x, y, z) in zip(symbols, places, strict=True)]
    return "\n".join(lines).encode()


def test_the_stored_input_of_a_band_is_what_was_sent(service: Service) -> None:
    sent = curved_band()
    response = service.client.post(CALLS[0], files={"band": ("band.extxyz", as_frames(sent))})
    assert response.status_code == 200, response.text
    stored = service.client.get(f"/predictions/{response.json()['prediction_id']}")
    kept = as_declared(stored, StoredPrediction)["input"]
    assert kept.keys() == sent.keys()
    assert (kept["ion"], kept["host_species"]) == (sent["ion"], sent["host_species"])
    for name in sent.keys() - {"ion", "host_species"}:
        np.testing.assert_allclose(kept[name], sent[name], rtol=0, atol=1e-6, err_msg=name)


def test_the_stored_input_of_a_crystal_is_its_sites(service: Service, examples: Path) -> None:
    answer = send_crystal(service, examples).json()
    stored = service.client.get(f"/predictions/{answer['prediction_id']}")
    kept = as_declared(stored, StoredPrediction)["input"]
    assert kept["ion"] == "Li"
    assert sorted(symbol for site in kept["sites"] for symbol in site["species"]) == ["Co"] * 3 + ["Li"] * 3 + ["O"] * 6


def test_metrics_count_predictions_stages_and_errors(service: Service, examples: Path) -> None:
    for _ in range(2):  # the second one comes from the cache
        send_band(service, examples)
    service.client.post("/predict/barrier", json={"ion": "Li"})
    service.client.get("/nothing-here")
    text = service.client.get("/metrics").text
    assert 'ionpath_predictions_total{cached="true",model="default"}' in text
    assert 'ionpath_stage_seconds_count{stage="read"}' in text
    assert 'ionpath_cache_lookups_total{result="hit"}' in text
    assert 'ionpath_errors_total{kind="not-found"}' in text
    assert 'ionpath_errors_total{kind="missing-field"}' in text
    assert "ionpath_queue_max_wait_seconds " in text, "what may wait, beside what waits"
    assert "ionpath_spool_limit_bytes 1.073741824e+09" in text
    assert "process_open_fds" in text


def test_an_answer_says_which_checkpoint_spoke_and_what_the_others_would_cost(service: Service, examples: Path) -> None:
    answer = send_band(service, examples).json()
    others = {other["name"]: other for other in answer["other_models"]}
    assert answer["model"]["name"] == "default"
    folders = [card.parent for card in (examples.parent / "model_store").glob("*/card.json")]
    of_others = [folder for folder in folders if card_kind(folder) in {PROPERTIES_KIND, CONDUCTIVITY_KIND}]
    of_barriers = {folder.name for folder in folders if folder not in of_others}
    assert others.keys() == of_barriers - {"default"}
    assert others["relaxed"]["seconds_per_band"] > 0.1
    assert 0 < others["model-3"]["mae_ev"] < 0.5


def test_a_crystal_that_would_surely_take_too_long_is_refused_with_the_other_way(
    tmp_path: Path, examples: Path
) -> None:
    store = tmp_path / "store"
    write_untrained(store)
    write_untrained(store, "slow", seconds_per_band=3.0)
    with running_service(tmp_path, model_store=store, request_timeout_s=2) as service:
        refused = send_crystal(service, examples, model="slow")
        assert refused.status_code == 422
        assert refused.json()["kind"] == "takes-too-long"
        assert "respond-async" in refused.json()["expected"]
        assert send_crystal(service, examples).status_code == 200
