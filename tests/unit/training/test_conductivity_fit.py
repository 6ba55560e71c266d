"""The fit of a conductivity model: signs, bounds, folds and intervals."""

import csv
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conductors import LAW, config, fitted, made_conductors

from training.conductivity.figures import figures
from training.conductivity.fit import fit_regression
from training.conductivity.measured import Measured, Measurements, read_measurements
from training.conductivity.report import write_report
from training.conductivity.run import ConductivityRun, both_out_of_fold, calibrated, cross_calibrated, predicted


def test_the_law_is_found_and_a_coefficient_of_the_wrong_sign_is_zero() -> None:
    network, _, _ = fitted()
    slopes = (network.coefficients / network.scales).numpy()
    assert np.sign(slopes).tolist() == np.sign(LAW).tolist()
    assert slopes == pytest.approx(LAW, rel=0.4)
    described, values = made_conductors()
    flat = np.zeros(len(values), dtype=bool)
    turned = fit_regression(described, -values, flat, np.arange(len(values)).astype(str), config())
    assert (turned.coefficients == 0).all()


def test_a_bound_raises_no_prediction_and_lowers_one_that_is_above() -> None:
    described, values = made_conductors()
    families = np.arange(len(values)).astype(str)
    nothing = np.zeros(len(values), dtype=bool)
    bound = nothing.copy()
    bound[0] = True
    without, _ = predicted(fit_regression(described, values, nothing, families, config()), described)
    for shift, is_moved in ((6.0, False), (-6.0, True)):
        shifted = values.copy()
        shifted[0] += shift
        with_bound, _ = predicted(fit_regression(described, shifted, bound, families, config()), described)
        assert (abs(with_bound[0] - without[0]) > 2.0) == is_moved


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[np.ndarray], ConductivityRun]:
    described, _ = made_conductors(90)
    monkeypatch.setattr("training.conductivity.run._TREES", 30)
    monkeypatch.setattr("training.metrics._RESAMPLES", 200)

    def made(values: np.ndarray) -> ConductivityRun:
        rows = tuple(
            Measured(
                id=str(number),
                composition="Li3PS4",
                log10_s_per_cm=float(value),
                is_bound=number % 15 == 0,
                family=f"family {number % 18}",
                cell=np.ones(7),
                close_match=False,
                folds={"fold_family": number % 6, "fold_random": number // 15},
                crystal=None,
            )
            for number, value in enumerate(values)
        )
        made = ConductivityRun.__new__(ConductivityRun)  # its descriptors are made up: no hops are predicted here
        made.config, made.measurements, made.described = config(), Measurements(rows=rows, sha256="0"), described
        return made

    return made


def test_a_fold_is_predicted_by_what_has_not_seen_it(run: Callable[[np.ndarray], ConductivityRun]) -> None:
    _, values = made_conductors(90)
    one = run(values).out_of_fold("fold_family")
    changed = values.copy()
    changed[np.arange(90) % 6 == 2] -= 5.0
    other = run(changed).out_of_fold("fold_family")
    held = np.arange(90) % 6 == 2
    assert one.predicted[held] == pytest.approx(other.predicted[held])
    assert one.trees[held] == pytest.approx(other.trees[held])
    assert not np.allclose(one.predicted[~held], other.predicted[~held])


def test_intervals_hold_and_figures_say_so(run: Callable[[np.ndarray], ConductivityRun], tmp_path: Path) -> None:
    _, values = made_conductors(90)
    noisy = values + np.random.default_rng(1).normal(0, 1.0, len(values))
    made = run(noisy)
    outs = both_out_of_fold(made)
    every = list(outs.values())
    table = figures(made, outs["fold_family"], cross_calibrated(made, outs["fold_family"], every))
    assert (table["rows"], table["measured"], table["bounds"]) == (90, 84, 6)
    assert 0.8 <= table["coverage"]["value"] <= 1.0
    assert table["model"]["mae_decades"]["value"] < table["median"]["mae_decades"]["value"]
    assert table["less_than_trees_decades"]["high"] < 0
    calibration = calibrated(made, every, np.ones(90, dtype=bool))
    assert calibration.scale(1.0) >= calibration.scale(0.0) > 0
    pictures = write_report(made, outs, tmp_path / "report")
    assert [path.name for path in pictures] == ["conductivity.png", "conductivity-worst.csv"]
    assert pictures[0].read_bytes().startswith(b"\x89PNG")
    worst = list(csv.DictReader(pictures[1].read_text().splitlines()))
    assert len(worst) == 10
    off = [abs(float(row["measured_log10"]) - float(row["predicted_log10"])) for row in worst]
    assert off[0] >= off[-1] - 0.11
    assert all(int(row["id"]) % 15 for row in worst)  # no bounds


def _write(data: Path, rows: list[dict[str, str]]) -> None:
    folder = data / "conductivity"
    folder.mkdir(parents=True)
    with (folder / "obelix.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with tarfile.open(folder / "cifs.tar.xz", "w:xz") as archive:
        for row in rows:
            content = b"data_nothing" if row["id"] == "bad" else LIF
            entry = tarfile.TarInfo(f"cifs/{row['id']}.cif")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


LIF = b"""data_LiF
_cell_length_a 4.027
_cell_length_b 4.027
_cell_length_c 4.027
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Li 0 0 0
F 0.5 0.5 0.5
"""


def test_measurements_are_read_with_bounds_and_what_cannot_be_read(tmp_path: Path) -> None:
    row = {"id": "one", "composition": "LiF", "family": "", "conductivity_s_per_cm": "1e-9", "upper_bound": "1"}
    row |= dict.fromkeys(("a_angstrom", "b_angstrom", "c_angstrom", "alpha_degree", "beta_degree"), "4")
    row |= {"gamma_degree": "90", "space_group_number": "225", "has_cif": "1", "cif_of_a_close_match": "0"}
    row |= {"fold_family": "3", "fold_random": "4"}
    _write(tmp_path, [row, {**row, "id": "bad", "family": "halides"}])
    found = read_measurements(tmp_path, "Li")
    good, bad = found.rows
    assert (good.log10_s_per_cm, good.is_bound, good.family) == (-9.0, True, "LiF")
    assert good.crystal is not None
    assert (bad.crystal, bad.family) == (None, "halides")
    assert bad.unreadable
    with pytest.raises(FileNotFoundError, match="data convert obelix"):
        read_measurements(tmp_path / "nowhere", "Li")
