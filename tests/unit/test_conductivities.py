"""The figures of the benchmark on measured conductivities: ranks, areas, and barriers that are computed once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bands import rock_salt

from app.errors import IonpathError
from app.models.checkpoints import read_predictor
from benchmarks.conductivities import KeptBarriers, ranks, roc_area


def test_what_does_not_connect_is_the_worst() -> None:
    assert ranks([0.3, None, 0.1, None, 0.3]).tolist() == [2.5, 4.5, 1.0, 4.5, 2.5]


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    good = np.array([True, True, False, False])
    assert roc_area(np.array([0.1, 0.2, 0.3, 0.4]), good) == 1.0
    assert roc_area(np.array([0.1, 0.4, 0.3, 0.4]), good) == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert np.isnan(roc_area(np.array([0.1, 0.2]), np.array([True, True])))


def test_a_barrier_is_computed_once(repository: Path, tmp_path: Path) -> None:
    predictor = read_predictor(repository / "model_store" / "default", device=torch.device("cpu"))
    first = KeptBarriers(tmp_path / "barriers.jsonl", predictor).outcome(rock_salt())
    assert not isinstance(first.outcome, IonpathError)
    written = (tmp_path / "barriers.jsonl").read_text()
    again = KeptBarriers(tmp_path / "barriers.jsonl", predictor).outcome(rock_salt())
    assert again == first
    assert (tmp_path / "barriers.jsonl").read_text() == written
