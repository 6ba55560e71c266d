import numpy as np
import pytest

from training.metrics import METRICS, metrics_with_intervals


def test_figures_of_a_case_worked_by_hand() -> None:
    labels = np.array([0.2, 0.4, 0.6, 1.0])
    predictions = np.array([0.3, 0.7, 0.5, 0.9])
    values = {name: metric(labels, predictions) for name, metric in METRICS.items()}
    assert values["mae_ev"] == pytest.approx(0.15)
    assert values["median_absolute_error_ev"] == pytest.approx(0.1)
    assert values["rmse_ev"] == pytest.approx(np.sqrt(0.12 / 4))
    assert values["r2"] == pytest.approx(1 - 0.12 / 0.35)
    assert values["accuracy"] == 0.75
    assert values["precision"] == 1.0
    assert values["recall"] == pytest.approx(2 / 3)


def test_an_interval_holds_its_value_and_narrows_with_more_rows() -> None:
    generator = np.random.default_rng(0)
    labels = generator.lognormal(size=400)
    predictions = labels + generator.normal(scale=0.2, size=400)
    widths = []
    for rows in (40, 400):
        interval = metrics_with_intervals(labels[:rows], predictions[:rows])["mae_ev"]
        low, value, high = interval["low"], interval["value"], interval["high"]
        assert low is not None
        assert value is not None
        assert high is not None
        assert low < value < high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_what_the_rows_do_not_define_is_none() -> None:
    nobody_is_good = metrics_with_intervals(np.array([1.0, 2.0]), np.array([1.5, 1.6]))
    assert nobody_is_good["precision"] == {"value": None, "low": None, "high": None}
