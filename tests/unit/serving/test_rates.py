"""Rates: a burst, then a steady trickle, each caller apart."""

import pytest

from app.api.rates import Rates
from app.errors import BusyError


def refused_for_s(rates: Rates, caller: str, now_s: float) -> float:
    with pytest.raises(BusyError) as refused:
        rates.take(caller, now_s=now_s)
    assert refused.value.kind == "rate-exceeded"
    return refused.value.retry_after_s


def test_a_burst_is_let_in_and_then_one_each_interval() -> None:
    rates = Rates(a_minute=60, burst=3)
    for _ in range(3):
        rates.take("alice", now_s=100.0)
    assert refused_for_s(rates, "alice", 100.0) == pytest.approx(1.0)
    assert refused_for_s(rates, "alice", 100.5) == pytest.approx(0.5)
    rates.take("alice", now_s=101.0)
    refused_for_s(rates, "alice", 101.0)
    rates.take("bob", now_s=101.0)


def test_the_wait_that_is_told_is_enough() -> None:
    rates, now = Rates(a_minute=7, burst=1), 12_345.678
    for _ in range(50):
        rates.take("alice", now_s=now)
        now += refused_for_s(rates, "alice", now)


def test_being_refused_costs_nothing_and_silence_earns_one_burst() -> None:
    rates = Rates(a_minute=60, burst=2)
    for _ in range(2):
        rates.take("alice", now_s=0.0)
    for _ in range(100):
        refused_for_s(rates, "alice", 0.1)
    for _ in range(2):
        rates.take("alice", now_s=1_000.0)
    refused_for_s(rates, "alice", 1_000.0)


def test_without_a_rate_everybody_is_let_in() -> None:
    rates = Rates(a_minute=0, burst=1)
    for _ in range(1_000):
        rates.take("alice", now_s=0.0)


def test_callers_that_owe_nothing_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.rates._REMEMBERED", 10)
    rates = Rates(a_minute=60, burst=1)
    for number in range(100):
        rates.take(str(number), now_s=2.0 * number)
    assert len(rates._paid_until_s) <= 10
