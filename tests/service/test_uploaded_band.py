"""A finished NEB shows its own barrier beside the predicted one: in answer, log and CSV, on the command line."""

import csv
import io
from pathlib import Path

import pytest
from api_server import Service, ionpath
from written_formats import BACK_EV, ENERGIES_EV, FORWARD_EV, band, poscar, structures, vtst, zipped

from app.crystals.writers import band_to_json

WHOLE = {
    "forward_ev": FORWARD_EV,
    "reverse_ev": BACK_EV,
    "highest_image": 2,
    "energies_ev": [0.0, 0.2, 0.5, 0.25, 0.05],
}


def test_the_answer_has_both(service: Service) -> None:
    sent = service.client.post("/predict/barrier", files={"band": ("run.zip", zipped(vtst()))})
    assert sent.status_code == 200, sent.text
    answer = sent.json()
    assert answer["uploaded_band"] == WHOLE
    without = zipped({f"{k:02d}/POSCAR": poscar(one) for k, one in enumerate(structures())})
    plain = service.client.post("/predict/barrier", files={"band": ("run.zip", without)}).json()
    assert "uploaded_band" not in plain
    assert plain["barrier_ev"] == pytest.approx(answer["barrier_ev"], abs=1e-6)  # ours does not depend on theirs
    stored = service.client.get(f"/predictions/{answer['prediction_id']}").json()
    assert stored["uploaded_band"] == WHOLE
    assert stored["input"]["image_energies_ev"] == pytest.approx(ENERGIES_EV)
    rows = service.client.get(f"/predictions/{answer['prediction_id']}", params={"format": "csv"}).text
    (row,) = csv.DictReader(io.StringIO(rows))
    assert (row["uploaded_forward_ev"], row["uploaded_reverse_ev"]) == ("0.5", "0.45")
    again = service.client.post("/predict/barrier", json=stored["input"]).json()
    assert again["uploaded_band"] == WHOLE


def test_energies_of_a_json_band_are_checked(service: Service) -> None:
    for energies in ([1.0], "x", [0.0, 1.0, 2.0, "high", 0.0], 7):
        sent = service.client.post("/predict/barrier", json=band_to_json(band()) | {"image_energies_ev": energies})
        assert (sent.status_code, sent.json()["kind"]) == (422, "wrong-shape")
        assert sent.json()["where"].startswith("image_energies_ev")


def test_the_command_line_shows_both_of_a_folder(tmp_path: Path, service: Service) -> None:
    for name, content in vtst().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "run" / "00" / "WAVECAR").write_bytes(b"x" * 1000)
    shown = ionpath(tmp_path, "predict", tmp_path / "run", "--url", service.url)
    assert shown.returncode == 0, shown.stderr
    assert "by the energies in the file 0.500 eV forward and 0.450 eV back, image 2 of 0 to 4" in shown.stdout
