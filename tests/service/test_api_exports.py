"""A prediction as CSV, as NEB folders and as NEB frames."""

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import httpx
import numpy as np
import pytest
from api_server import Service, running_service

CRYSTAL, BAND = ("structure", "LiCoO2.cif"), ("band", "LiFePO4_band.json")
ALL_PREDICTED_ANGSTROM = 4.9  # the next hop of the crystal passes too near an atom


def predict(service: Service, examples: Path, field: str, name: str, **query: Any) -> dict[str, Any]:
    data = {"ion": "Li"} if field == "structure" else None
    files = {field: (name, (examples / name).read_bytes())}
    response = service.client.post("/predict/barrier", params=query, files=files, data=data)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def get(service: Service, answer: dict[str, Any], form: str | None = None, accept: str | None = None) -> httpx.Response:
    headers = {} if accept is None else {"Accept": accept}
    query = {} if form is None else {"format": form}
    return service.client.get(f"/predictions/{answer['prediction_id']}", params=query, headers=headers)


@pytest.mark.parametrize(
    ("form", "media_type"),
    [
        ("json", "application/json"),
        ("csv", "text/csv"),
        ("zip", "application/zip"),
        ("neb-json", "application/vnd.ionpath.neb+json"),
    ],
)
@pytest.mark.parametrize("sent", [CRYSTAL, BAND])
def test_format_and_accept_header_give_the_same(
    service: Service, examples: Path, sent: tuple[str, str], form: str, media_type: str
) -> None:
    answer = predict(service, examples, *sent)
    by_format, by_header = get(service, answer, form), get(service, answer, accept=media_type)
    assert (by_format.status_code, by_header.status_code) == (200, 200)
    assert by_format.content == by_header.content
    for response in (by_format, by_header):
        assert response.headers["content-type"].partition(";")[0] == media_type
        assert response.headers["vary"] == "Accept"
        assert ("attachment" in response.headers.get("content-disposition", "")) is (form != "json")


def test_the_csv_has_one_row_a_hop(service: Service, examples: Path) -> None:
    answer = predict(service, examples, *CRYSTAL, max_hop_angstrom=ALL_PREDICTED_ANGSTROM)
    rows = list(csv.DictReader(io.StringIO(get(service, answer, "csv").text)))
    assert len(rows) == len(answer["hops"])
    for number, (row, hop) in enumerate(zip(rows, answer["hops"], strict=True), start=1):
        assert row["hop"] == str(number)
        assert [int(row["from_site"]), int(row["to_site"])] == [hop["from_site"], hop["to_site"]]
        assert [int(step) for step in row["offset"].split()] == hop["offset"]
        assert float(row["barrier_ev"]) == pytest.approx(hop["barrier_ev"], abs=1e-4)
        assert float(row["low_ev"]) < float(row["barrier_ev"]) < float(row["high_ev"])
    band = list(csv.DictReader(io.StringIO(get(service, predict(service, examples, *BAND), "csv").text)))
    assert [(row["hop"], row["ion"]) for row in band] == [("", "Li")]


def test_an_excluded_hop_has_a_row_that_says_why_and_no_folder(service: Service, examples: Path) -> None:
    answer = predict(service, examples, *CRYSTAL, max_hop_angstrom=7.0)
    excluded = [number for number, hop in enumerate(answer["hops"], start=1) if hop["excluded_because"]]
    assert excluded
    rows = list(csv.DictReader(io.StringIO(get(service, answer, "csv").text)))
    with zipfile.ZipFile(io.BytesIO(get(service, answer, "zip").content)) as archive:
        readme = archive.read("README.md").decode()
        folders = {name.split("/")[0] for name in archive.namelist()} - {"README.md"}
    assert len(folders) == len(rows) - len(excluded)
    for number in excluded:
        reason = answer["hops"][number - 1]["excluded_because"]
        assert rows[number - 1]["excluded_because"] == reason
        assert rows[number - 1]["barrier_ev"] == ""
        assert reason in readme


def test_a_folder_of_the_zip_is_the_band_that_was_predicted(service: Service, examples: Path) -> None:
    answer = predict(service, examples, *CRYSTAL, max_hop_angstrom=ALL_PREDICTED_ANGSTROM)
    packed = io.BytesIO(get(service, answer, "zip").content)
    for number, hop in enumerate(answer["hops"], start=1):
        own = io.BytesIO()
        with zipfile.ZipFile(packed) as archive, zipfile.ZipFile(own, "w") as one:
            for name in archive.namelist():
                if name.startswith(f"hop-{number:02d}/"):
                    one.writestr(name.partition("/")[2], archive.read(name))
        response = service.client.post("/predict/barrier", files={"band": ("hop.zip", own.getvalue())})
        assert response.json()["barrier_ev"] == pytest.approx(hop["barrier_ev"], abs=2e-3), response.text


def test_the_zip_of_a_band_can_be_sent_again(service: Service, examples: Path) -> None:
    answer = predict(service, examples, *BAND)
    again = service.client.post("/predict/barrier", files={"band": ("bands.zip", get(service, answer, "zip").content)})
    assert again.json()["barrier_ev"] == pytest.approx(answer["barrier_ev"], abs=2e-3)
    assert again.json()["warnings"] == []


def test_ase_reads_the_frames(service: Service, examples: Path, tmp_path: Path) -> None:
    answer = predict(service, examples, *CRYSTAL, max_hop_angstrom=ALL_PREDICTED_ANGSTROM)
    file = tmp_path / "bands.json"
    file.write_bytes(get(service, answer, "neb-json").content)
    frames = ase.io.read(file, index=":", format="json")
    assert len(frames) == 5 * len(answer["hops"])
    for number, hop in enumerate(answer["hops"], start=1):
        images = ase.io.read(f"{file}@hop={number}", format="json")
        assert len(images) == 5
        path = np.array([image.positions[-1] for image in images])
        assert {image.get_chemical_symbols()[-1] for image in images} == {"Li"}
        assert np.linalg.norm(path[-1] - path[0]) == pytest.approx(hop["distance_angstrom"], abs=1e-3)
        np.testing.assert_allclose(np.diff(path, axis=0), [(path[-1] - path[0]) / 4] * 4, atol=1e-6)
        rows = list(ase.db.connect(file, type="json").select(hop=number))
        assert [row.image for row in rows] == [0, 1, 2, 3, 4]
        assert {row.barrier_ev for row in rows} == {hop["barrier_ev"]}


@pytest.mark.parametrize(("form", "accept"), [("xml", None), (None, "image/png")])
def test_an_unknown_form_is_refused_with_those_that_are_known(
    service: Service, examples: Path, form: str | None, accept: str | None
) -> None:
    response = get(service, predict(service, examples, *BAND), form, accept)
    assert response.status_code == 406
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["kind"] == "not-acceptable"
    assert "neb-json" in problem["expected"]


def test_the_forms_are_on_the_openapi_page(service: Service) -> None:
    document = service.client.get("/openapi.json").json()
    responses = document["paths"]["/predictions/{prediction_id}"]["get"]["responses"]
    types = {"application/json", "text/csv", "application/zip", "application/vnd.ionpath.neb+json"}
    assert set(responses["200"]["content"]) == types
    assert {"406", "409"} <= responses.keys()


def test_without_its_input_only_the_csv_can_be_written(tmp_path: Path, examples: Path, store: Path) -> None:
    with running_service(tmp_path, store_inputs=0, model_store=store) as service:
        answer = predict(service, examples, *BAND)
        assert get(service, answer, "csv").status_code == 200
        for form in ("zip", "neb-json"):
            response = get(service, answer, form)
            assert (response.status_code, response.json()["kind"]) == (404, "input-not-kept")
