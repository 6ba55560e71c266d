"""How many processes prepare bands: as set, or by the cores that may be used and what the model runs on."""

import pytest
import torch

from app.serving import service
from app.settings import Settings


@pytest.mark.parametrize(
    ("asked", "device", "cores", "count"),
    [
        (0, "cpu", 1, 1),
        (0, "cpu", 2, 2),
        (0, "cpu", 4, 3),
        (0, "cpu", 6, 4),
        (0, "cpu", 64, 4),
        (0, "cuda", 6, 3),
        (0, "cuda", 64, 12),
        (7, "cpu", 2, 7),
        (7, "cuda", 64, 7),
    ],
)
def test_as_many_as_are_asked_for_or_fit(
    monkeypatch: pytest.MonkeyPatch, asked: int, device: str, cores: int, count: int
) -> None:
    monkeypatch.setattr(service, "usable_cores", lambda: cores)
    monkeypatch.setattr(service, "choose_device", lambda _: torch.device(device))  # there is no GPU in this test
    assert service.preparing_count(Settings(prepare_processes=asked)) == count
